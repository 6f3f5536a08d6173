"""Numbers that a float does not keep: whether a model needs what it would lose of them, found out by trying.

Pydantic reads every number with a point as a float, even for a `Decimal`: digits beyond those of a float are gone then,
and nothing tells. So the JSON is read once more, with each such number moved to the next float on the side on which the
number itself lies. Where only floats have changed in what the log would have of it, a float was all that was wanted.

Not seen is what a serialiser leaves out or writes as a float, and what a model mixes with chance in one text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal, InvalidOperation
from math import inf, isfinite, nextafter
from typing import Any, Final, NamedTuple

from eventstore.errors import InvalidArgumentError

Written = Callable[[str], Sequence[Any]]
"""Returns what the log would have, as JSON values, of the events that a JSON text is."""

_SURE_LENGTH: Final = 16
"""15 digits and a point: a float keeps them."""

_EVERY_INTEGER: Final = 2**53
"""A float keeps each integer up to here."""

_FINITE_LENGTH: Final = 308
"""An integer of so many digits is no infinity as a float."""

_HUGE_INTEGER: Final = re.compile(rf"\d{{{_FINITE_LENGTH + 1}}}")

_TRIES: Final = 20
"""How often JSON is read before what differs is not taken for chance."""


def is_kept(number: str) -> bool:
    """Whether a float keeps a number that has a point or an exponent, but for zeros at its end."""
    if len(number) <= _SURE_LENGTH and "e" not in number and "E" not in number:
        return True
    kept, exact = float(number), _exact(number)
    # A `Decimal` is made of the digits that a float shows, an `int` of its value, which differs above 2 to the 53rd.
    return exact == _decimal(kept) and (abs(kept) < _EVERY_INTEGER or exact == Decimal(kept))


def is_within_floats(integer: str) -> bool:
    """Whether no float takes an integer for infinity."""
    return len(integer) <= _FINITE_LENGTH


def require_kept(text: str, written: Written) -> None:
    """Refuse JSON that holds numbers which a float does not keep, if more than a float was wanted of them.

    Args:
        text: The JSON.
        written: What would be written of it.

    Raises:
        InvalidArgumentError: Digits would be lost, or an integer would be infinity.
    """
    usual = _tried(written, text)
    if usual is None:
        raise InvalidArgumentError(
            "it holds a number with more digits than a float keeps, and its model, which cannot be written as JSON, "
            "does not show whether it wants them: write it as a string"
        )
    moved = _tried(written, text, parse_float=_neighbour)
    if moved is None or _needs_others(usual, moved, lambda: _tried(written, text)):
        raise _lost()
    small = _tried(written, text, parse_int=_small) if _HUGE_INTEGER.search(text) else usual
    if small is None or small.floats > usual.floats:
        raise InvalidArgumentError("it holds a number that is too large, which would be read as infinity")


def _needs_others(usual: _Leaves, moved: _Leaves, again: Callable[[], _Leaves | None]) -> bool:
    """Whether anything but floats differs in what was tried, however often what comes by chance is left out."""
    stable = usual.others.copy()
    for _ in range(_TRIES):  # after the other one: a clock that has not gone on since had not gone on for that
        once_more = again()
        if once_more is None:
            return True
        stable &= once_more.others
        is_steady = usual.others.total() == once_more.others.total()
        if stable <= moved.others and (not is_steady or usual.others.total() == moved.others.total()):
            return False
    return True


def _lost() -> InvalidArgumentError:
    return InvalidArgumentError(
        "it holds a number with more digits than a float keeps, as which JSON is read, and more than a float is wanted "
        "of it: write it as a string, which is taken as it is"
    )


def _tried(written: Written, text: str, **numbers: Callable[[str], float]) -> _Leaves | None:
    """Return what would be written of a text with other numbers in it; None if it cannot be."""
    try:
        return _leaves(written(json.dumps(json.loads(text, **numbers))))  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - validators and serialisers are anybody's code, and their errors hold values
        return None


def _neighbour(number: str) -> float:
    kept = float(number)
    if is_kept(number):
        return kept
    exact = _exact(number)
    next_one = nextafter(kept, inf if exact is None or exact > _decimal(kept) else -inf)
    return next_one if isfinite(next_one) else nextafter(kept, 0)


def _small(integer: str) -> int:
    return int(integer[:_FINITE_LENGTH])


def _exact(number: str) -> Decimal | None:
    """Return a number as it is written; None if its exponent is without measure."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return None


def _decimal(number: float) -> Decimal:
    """Return what pydantic makes of a float for a `Decimal`."""
    return Decimal(repr(number))


class _Leaves(NamedTuple):
    """What a JSON value is made of, wherever it stands: sets have no order, and names may come by chance."""

    floats: int
    """How many finite floats."""
    others: Counter[tuple[type, Any]]
    """Everything else: names, and values with their types."""


def _leaves(value: Any) -> _Leaves:
    floats, others, waiting = 0, Counter[tuple[type, Any]](), [value]
    while waiting:
        match waiting.pop():
            case dict() as members:
                others.update((dict, name) for name in members)
                waiting += members.values()
            case list() as items:
                waiting += items
            case float() as number:
                floats += isfinite(number)
            case leaf:
                others[type(leaf), leaf] += 1
    return _Leaves(floats, others)
