"""Numbers that a float does not keep: whether a model needs what it would lose of them, found out by trying.

Pydantic reads every number with a point as a float, even for a `Decimal`: digits beyond those of a float are gone then,
and nothing tells. So the JSON is read once more, with each such number moved to the next float on the side on which the
number itself lies. Where only floats have changed in what the log would have of it, a float was all that was wanted.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal, InvalidOperation
from math import inf, isinf, nextafter
from typing import Any, Final

from eventstore.errors import InvalidArgumentError

Written = Callable[[str], Sequence[Any]]
"""Returns what the log would have, as JSON values, of the events that a JSON text is."""

_SURE_LENGTH: Final = 16
"""15 digits and a point: a float keeps them."""

_FINITE_LENGTH: Final = 308
"""An integer of so many digits is no infinity as a float."""


def is_kept(number: str) -> bool:
    """Whether a float keeps a number that has a point or an exponent, but for zeros at its end."""
    if len(number) <= _SURE_LENGTH and "e" not in number and "E" not in number:
        return True
    return _exact(number) == _decimal(float(number))


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
    usual, again = _tried(written, text), _tried(written, text)
    moved = _tried(written, text, parse_float=_neighbour)
    if usual is None or again is None or moved is None:
        raise _lost()
    by_chance = {place for place, _, _ in _differences(usual, again)}
    for place, before, after in _differences(usual, moved):
        if place not in by_chance and not (isinstance(before, float) and isinstance(after, float)):
            raise _lost()
    for _, before, after in _differences(usual, _tried(written, text, parse_int=_small)):
        if isinstance(after, float) and (not isinstance(before, float) or isinf(before)):
            raise InvalidArgumentError("it holds a number that is too large, which would be read as infinity")


def _lost() -> InvalidArgumentError:
    return InvalidArgumentError(
        "it holds a number with more digits than a float keeps, as which JSON is read, and more than a float is wanted "
        "of it: write it as a string, which is taken as it is"
    )


def _tried(written: Written, text: str, **numbers: Callable[[str], float]) -> Any:
    """Return what would be written of a text with other numbers in it; None if it cannot be."""
    try:
        return written(json.dumps(json.loads(text, **numbers)))  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - validators and serialisers are anybody's code, and their errors hold values
        return None


def _neighbour(number: str) -> float:
    kept = float(number)
    if is_kept(number):
        return kept
    exact = _exact(number)
    return nextafter(kept, inf if exact is None or exact > _decimal(kept) else -inf)


def _small(integer: str) -> int:
    return int(integer) if is_within_floats(integer) else 1


def _exact(number: str) -> Decimal | None:
    """Return a number as it is written; None if its exponent is without measure."""
    try:
        return Decimal(number)
    except InvalidOperation:
        return None


def _decimal(number: float) -> Decimal:
    """Return what pydantic makes of a float for a `Decimal`."""
    return Decimal(repr(number))


def _differences(one: Any, other: Any, place: tuple[str | int, ...] = ()) -> Iterator[tuple[Any, Any, Any]]:
    """Yield where two JSON values differ, and what is there in each."""
    match one, other:
        case dict(), dict() if one.keys() == other.keys():
            for name in one:
                yield from _differences(one[name], other[name], (*place, name))
        case list(), list() if len(one) == len(other):
            for at, (mine, others) in enumerate(zip(one, other, strict=True)):
                yield from _differences(mine, others, (*place, at))
        case _ if type(one) is not type(other) or one != other:
            yield place, one, other
