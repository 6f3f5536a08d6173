"""Numbers with more digits than a float keeps, as which pydantic reads each one with a point, even for a `Decimal`."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isinf
from numbers import Number
from types import MemberDescriptorType
from typing import Any, Final

from eventstore.errors import InvalidArgumentError

_PLAIN: Final = (str, bytes, bool, type(None), date, time, timedelta, Enum, type)
"""What holds no number that was written as one."""


def require_kept(inexact: Sequence[float], events: Sequence[Any]) -> None:
    """Refuse events in which something else than a float, such as a `Decimal`, holds what a float kept of a number.

    A float that a model wants is as exact as floats are, and so is what no model looks at. What a type of one's own
    holds is looked at in its attributes.

    Args:
        inexact: What floats kept, as `JsonText` has it.
        events: What was made of the JSON.

    Raises:
        InvalidArgumentError: Digits would be lost.
    """
    if not inexact:
        return
    left, others = Counter(inexact), list[Any]()
    for number in _numbers(events):
        if not isinstance(number, float):
            others.append(number)
        elif isinf(number):
            raise InvalidArgumentError("it holds a number that is too large, which would be read as infinity")
        else:
            left[number] -= 1
    lost = [kept for kept, count in left.items() if count > 0]
    if any(_is_made_of(kept, number) for number in others for kept in lost):
        raise InvalidArgumentError(
            "it holds a number with more digits than a float keeps, as which JSON is read, and its model would keep "
            "them: write it as a string, which is taken as it is"
        )


def _is_made_of(kept: float, number: Any) -> bool:
    if isinstance(number, Decimal):
        return number.is_finite() and number == Decimal(repr(kept))
    return bool(number == kept)


def _numbers(event: Any) -> Iterator[Any]:
    """Yield the numbers that a value is made of."""
    waiting, seen = [event], set[int]()
    while waiting:
        value = waiting.pop()
        match value:
            case _ if isinstance(value, _PLAIN):
                pass
            case Number():
                yield value
            case Mapping():
                waiting += value.keys()
                waiting += value.values()
            case list() | tuple() | deque() | AbstractSet():
                waiting += value
            case _ if id(value) not in seen:
                seen.add(id(value))
                waiting += _attributes(value)


def _attributes(value: Any) -> Iterator[Any]:
    yield from getattr(value, "__dict__", {}).values()
    for kind in type(value).__mro__:
        for slot in vars(kind).values():
            if isinstance(slot, MemberDescriptorType):
                try:
                    yield slot.__get__(value)
                except AttributeError:  # it was never set
                    continue
