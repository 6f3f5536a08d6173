"""JSON text: read so that nothing in it is lost, and taken apart without a change."""

from __future__ import annotations

import json
from decimal import Decimal
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Iterator

_DECODER: Final = json.JSONDecoder()


def parsed(text: str) -> Any:
    """Return what JSON says, if it says it once, and Python has a value for it.

    Raises:
        InvalidArgumentError: It is not JSON, or not such as can be read.
    """
    try:
        return json.loads(text, object_pairs_hook=without_repetition, parse_float=_finite, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise InvalidArgumentError(f"column {error.colno}: it is not JSON: {error.msg}") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, InvalidArgumentError):
            raise
        raise InvalidArgumentError("it is not JSON that can be read: too deep, or a number too long") from None


def without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; JSON lets a name occur twice, and then one of its values would be lost.

    Raises:
        InvalidArgumentError: A name occurs twice.
    """
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidArgumentError(f"an object has the name {twice!r} twice")
    return made


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise InvalidArgumentError("it holds a number that is too large, which would be read as infinity")
    return number


def _no_constant(text: str) -> None:
    raise InvalidArgumentError(f"it holds {text}, which is no JSON")


def require_exact(text: str) -> None:
    """Refuse a number that loses digits as a float, as which pydantic reads it even for a `Decimal`.

    Raises:
        InvalidArgumentError: There is one.
    """
    json.loads(text, parse_float=_exact)


def _exact(text: str) -> float:
    number = float(text)
    if Decimal(text) != Decimal(repr(number)):
        raise InvalidArgumentError(
            "it holds a number with more digits than a float keeps: write it as a string, which is taken as it is"
        )
    return number


def members(text: str) -> Iterator[tuple[str, str]]:
    """Yield the names in an object, and the text of what each one stands for; it is known to be JSON."""
    at = text.index("{")
    while (begin := _item(text, at, "}")) is not None:
        name, at = _DECODER.raw_decode(text, begin)
        begin = _skipped(text, text.index(":", at) + 1)
        at = _end(text, begin)
        yield name, text[begin:at]


def items(text: str) -> Iterator[str]:
    """Yield the texts of the items of an array, which is known to be JSON."""
    at = text.index("[")
    while (begin := _item(text, at, "]")) is not None:
        at = _end(text, begin)
        yield text[begin:at]


def _item(text: str, at: int, closing: str) -> int | None:
    """Return where the next item begins, behind what opens the list, or behind the item before; None after the last."""
    at = _skipped(text, at)
    if text[at] == closing:
        return None
    at = _skipped(text, at + 1)
    return None if text[at] == closing else at


def _end(text: str, begin: int) -> int:
    return _DECODER.raw_decode(text, begin)[1]


def _skipped(text: str, at: int) -> int:
    """Return where white space ends."""
    while text[at] in " \t\r\n":
        at += 1
    return at
