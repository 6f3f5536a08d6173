"""Whether what comes back is what was given: `==` is not enough, because `1 == True == 1.0` and `0.0 == -0.0`.

Two values are the same when they are of the same type and equal to the last bit, inside containers too. What Python
itself does not count as part of a value does not count here: the order of a dictionary, the name of a time zone (its
offset counts), a cached property. Three pairs of types are let through, because the code that declared the field
cannot tell them apart: a subclass where its base comes back (a driver's own UUID, a test's frozen datetime; never an
enum, and never a bool for an int), and an int where a float is declared.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel

_MISSING: Final = object()


def same(given: Any, back: Any) -> bool:
    """Return whether a value came back as it was given."""
    kind = type(back)
    if type(given) is not kind and not _stands_for(given, back):
        return False
    if kind in _EQUAL_IS_SAME:
        return bool(given == back)
    return _rule_of(kind)(given, back)


def changed_fields(given: BaseModel, back: BaseModel) -> list[str]:
    """Return the names of what came back changed: fields, extra ones, and private attributes."""
    had = given.__dict__
    changed = []
    for name, value in back.__dict__.items():
        before, kind = had.get(name, _MISSING), type(value)
        if kind is type(before) and kind in _EQUAL_IS_SAME:  # as `same` does; most values are, and every append asks
            if before != value:
                changed.append(name)
        elif not same(before, value):
            changed.append(name)
    if given.__pydantic_extra__ or back.__pydantic_extra__:
        changed += _changed_names(given.__pydantic_extra__ or {}, back.__pydantic_extra__ or {})
    if given.__pydantic_private__ or back.__pydantic_private__:
        changed += _changed_names(given.__pydantic_private__ or {}, back.__pydantic_private__ or {})
    return changed


def _changed_names(given: Mapping[str, Any], back: Mapping[str, Any]) -> list[str]:
    return [name for name in {**given, **back} if not same(given.get(name, _MISSING), back.get(name, _MISSING))]


def _stands_for(given: Any, back: Any) -> bool:
    """Whether a value of one type is as good as the other's where the field is declared."""
    kind = type(back)
    if isinstance(given, bool | Enum):
        return False
    return (kind in _VALUES and isinstance(given, kind)) or (kind is float and isinstance(given, int))


# --- one rule for each kind of value -------------------------------------------------------------------------------


def _same_float(given: float, back: float) -> bool:
    return given == back and (back != 0.0 or math.copysign(1.0, given) == math.copysign(1.0, back))


def _same_decimal(given: Decimal, back: Decimal) -> bool:
    return given.compare_total(back) == 0  # 1.10 is not 1.1, and a signalling NaN does not raise here


def _same_time(given: Any, back: Any) -> bool:
    """Compare the clock's face and the offset: between zones, `==` calls no time of an ambiguous hour equal."""
    if (given.tzinfo is None) is not (back.tzinfo is None) or given.utcoffset() != back.utcoffset():
        return False
    same_fold = given.tzinfo is not None or given.fold == back.fold  # with a zone, the offset has said it
    return same_fold and bool(given.replace(tzinfo=None, fold=0) == back.replace(tzinfo=None, fold=0))


def _same_sequence(given: Any, back: Any) -> bool:
    return len(given) == len(back) and all(map(same, given, back))


def _same_mapping(given: Mapping[Any, Any], back: Mapping[Any, Any]) -> bool:
    if len(given) != len(back) or not all(same(value, back.get(key, _MISSING)) for key, value in given.items()):
        return False
    return all(type(key) is str for key in given) or _same_set(given.keys(), back.keys())


def _same_set(given: AbstractSet[Any], back: AbstractSet[Any]) -> bool:
    itself = {item: item for item in back}
    return len(given) == len(back) and all(same(item, itself.get(item, _MISSING)) for item in given)


def _same_model(given: BaseModel, back: BaseModel) -> bool:
    return not changed_fields(given, back)


def _same_dataclass(given: Any, back: Any) -> bool:
    return all(same(getattr(given, each.name), getattr(back, each.name)) for each in fields(back) if each.compare)


def _same_member(given: Any, back: Any) -> bool:
    return given is back


def _equal(given: Any, back: Any) -> bool:
    return bool(given == back)


Rule = Callable[[Any, Any], bool]

_EQUAL_IS_SAME: Final = frozenset({str, int, bool, type(None), bytes, UUID, date, timedelta})

_RULES: Final[dict[type, Rule]] = {
    float: _same_float,
    Decimal: _same_decimal,
    datetime: _same_time,
    time: _same_time,
    Enum: _same_member,
    BaseModel: _same_model,
    list: _same_sequence,
    tuple: _same_sequence,
    deque: _same_sequence,
    dict: _same_mapping,
    set: _same_set,
    frozenset: _same_set,
}

_VALUES: Final = (_EQUAL_IS_SAME | _RULES.keys()) - {Enum, BaseModel}


def _rule_of(kind: type) -> Rule:
    rule = _RULES.get(kind)
    if rule is not None:
        return rule
    for base, inherited in _RULES.items():
        if issubclass(kind, base):
            return inherited
    return _same_dataclass if is_dataclass(kind) else _equal
