"""Being the same is more than being equal: what Python calls equal but JSON, or a model, would change."""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from functools import cached_property
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg.pgproto.pgproto
import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
)

from eventstore import EventTypes
from eventstore.clock import uuid7
from eventstore.codec import Codec, StoredEvent
from eventstore.codec.payload import summary_of
from eventstore.codec.sameness import same
from eventstore.codec.selection import EVERYTHING
from eventstore.errors import UnreadablePayloadError, UnstorablePayloadError
from eventstore.metadata import NO_METADATA
from eventstore.store.log import EventsToFold
from eventstore.testing import FakeClock

PARIS = ZoneInfo("Europe/Paris")
TWICE = datetime(2024, 10, 27, 2, 30)  # noqa: DTZ001 - the hour that Paris has twice
NEVER = datetime(2024, 3, 31, 2, 30)  # noqa: DTZ001 - and the one that it never has


class Shade(StrEnum):
    RED = "red"


class Level(IntEnum):
    ONE = 1


class Plain(Enum):
    ONE = 1


class FrozenTime(datetime):
    """What libraries that stop the clock in tests put in its place."""


@dataclass
class Point:
    x: float


class Labelled(BaseModel):
    name: str = ""
    _label: str = PrivateAttr(default="")


def labelled(name: str, label: str) -> Labelled:
    model = Labelled(name=name)
    model._label = label
    return model


uuid = uuid7()
one_hour, two_hours = timezone(timedelta(hours=1)), timezone(timedelta(hours=2))

SAME: dict[str, tuple[Any, Any]] = {
    "a sequence": ([1, "a", None], [1, "a", None]),
    "a mapping in another order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "sets": ({1.5, "x", (1,)}, {"x", (1,), 1.5}),
    "an ordered mapping for a plain one": (OrderedDict(a=1), {"a": 1}),
    "deques": (deque([1.0]), deque([1.0])),
    "the driver's UUID": (asyncpg.pgproto.pgproto.UUID(str(uuid)), uuid),
    "a stopped clock's time": (FrozenTime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)),
    "a zone and its offset": (datetime(2024, 7, 1, tzinfo=PARIS), datetime(2024, 7, 1, tzinfo=two_hours)),
    "an hour there twice, first": (TWICE.replace(tzinfo=PARIS), TWICE.replace(tzinfo=two_hours)),
    "an hour there twice, then": (
        TWICE.replace(tzinfo=PARIS, fold=1),
        TWICE.replace(tzinfo=one_hour),
    ),
    "an int where a float is declared": (2, 2.0),
    "decimals": (Decimal("1.10"), Decimal("1.10")),
    "signalling NaN": (Decimal("sNaN"), Decimal("sNaN")),
    "dataclasses": (Point(1.0), Point(1.0)),
    "models": (labelled("a", "b"), labelled("a", "b")),
}

OTHER: dict[str, tuple[Any, Any]] = {
    "a bool and an int": (True, 1),
    "an int and a bool": (1, True),
    "a float where an int comes back": (1.0, 1),
    "an int that no float is": (2**53 + 1, 2.0**53),
    "minus zero": (-0.0, 0.0),
    "minus zero inside": ([{"a": -0.0}], [{"a": 0.0}]),
    "NaN": (float("nan"), float("nan")),
    "trailing zeros": (Decimal("1.10"), Decimal("1.1")),
    "an int for a decimal": (1, Decimal(1)),
    "an enum and its text": (Shade.RED, "red"),
    "an enum and its number": (Level.ONE, 1),
    "an enum and another's member": (Plain.ONE, Level.ONE),
    "a tuple and a list": ((1,), [1]),
    "a set with another type inside": ({1.0}, {1}),
    "a name of another type": ({1.0: "a"}, {1: "a"}),
    "a name that is missing": ({"a": None}, {"b": None}),
    "a name too many": ({"a": 1}, {"a": 1, "b": 2}),
    "another length": ([1], [1, 1]),
    "another offset, the same moment": (
        datetime(2024, 7, 1, 12, tzinfo=two_hours),
        datetime(2024, 7, 1, 10, tzinfo=UTC),
    ),
    "no zone any more": (time(12, tzinfo=PARIS), time(12)),
    "the second of two times": (TWICE.replace(fold=1), TWICE),
    "a dataclass of another value": (Point(1.0), Point(-1.0)),
    "a private attribute": (labelled("a", "b"), labelled("a", "")),
}


@pytest.mark.parametrize(("given", "back"), SAME.values(), ids=SAME)
def test_what_comes_back_as_it_was_is_the_same(given: Any, back: Any) -> None:
    assert same(given, back)


@pytest.mark.parametrize(("given", "back"), OTHER.values(), ids=OTHER)
def test_what_comes_back_changed_is_not_the_same(given: Any, back: Any) -> None:
    assert not same(given, back)


# --- the same through the codec --------------------------------------------------------------------------------------


class Holds(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True)

    anything: Any = None
    number: int = 0
    amount: float = 0  # an int, as many write it
    moment: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    hour: time = time(0)
    table: dict[int | float, str] = {}
    price: Annotated[Decimal, Field(allow_inf_nan=True)] = Decimal(0)
    cents: Annotated[Decimal, PlainSerializer(float)] = Decimal(0)
    rounded: Annotated[float, PlainSerializer(round)] = 0.0
    inner: Labelled = Labelled()
    _note: str = PrivateAttr(default="")

    @cached_property
    def doubled(self) -> int:
        return self.number * 2


def with_note() -> Holds:
    event = Holds()
    event._note = "lost"
    return event


def with_cache() -> Holds:
    event = Holds(number=2)
    assert event.doubled == 4
    return event


KEPT: dict[str, Holds] = {
    "an int default of a float": Holds(),
    "a moment that its zone has twice": Holds(moment=TWICE.replace(tzinfo=PARIS)),
    "the second one": Holds(moment=TWICE.replace(tzinfo=PARIS, fold=1)),
    "a moment that its zone never has": Holds(moment=NEVER.replace(tzinfo=PARIS)),
    "a property that was computed": with_cache(),
    "a signalling NaN": Holds(price=Decimal("sNaN")),
    "an integer of 4,300 digits": Holds(anything=[10**4299, "\\u0000"]),
}

REFUSED: dict[str, tuple[Holds, str]] = {
    "an enum as anything": (Holds(anything=Level.ONE), "anything"),
    "a text enum as anything": (Holds(anything={"a": [Shade.RED]}), "anything"),
    "a bool for an int": (Holds.model_construct(number=True), "number"),
    "a float as a name": (Holds(table={1.0: "a"}), "table"),
    "a decimal's trailing zero": (Holds(cents=Decimal("1.10")), "cents"),
    "a rounded minus zero": (Holds(rounded=-0.0), "rounded"),
    "an hour in a zone": (Holds(hour=time(12, tzinfo=PARIS)), "hour"),
    "the second of two naive times": (Holds(moment=TWICE.replace(fold=1)), "moment"),
    "an offset of seconds": (Holds(moment=TWICE.replace(tzinfo=timezone(timedelta(seconds=30)))), "moment"),
    "a private attribute": (with_note(), "_note"),
    "a private attribute inside": (Holds(inner=labelled("a", "b")), "inner"),
    "an integer of 5,000 digits beside a written-out NUL": (Holds(anything=[10**4999, "\\u0000"]), "json_invalid"),
}


def codec_of(model: type[BaseModel]) -> Codec:
    registry = EventTypes()
    registry.register("Special")(model)
    return Codec(registry, clock=FakeClock(), new_id=uuid7, max_payload=1024 * 1024)


@pytest.mark.parametrize("event", KEPT.values(), ids=KEPT)
def test_what_only_python_finds_unequal_is_stored(event: Holds) -> None:
    codec_of(Holds).encode(event, NO_METADATA)


@pytest.mark.parametrize(("event", "problem"), REFUSED.values(), ids=REFUSED)
def test_what_only_python_finds_equal_is_refused(event: Holds, problem: str) -> None:
    with pytest.raises(UnstorablePayloadError, match=problem) as raised:
        codec_of(Holds).encode(event, NO_METADATA)
    assert raised.value.__cause__ is None


class Touchy(BaseModel):
    secret: str

    @field_validator("secret")
    @classmethod
    def _fails_on_json(cls, value: str, info: ValidationInfo) -> str:
        if info.mode == "json":
            raise KeyError(value)
        return value


def test_a_validator_that_fails_on_the_way_back_is_told_without_the_value() -> None:
    codec, event = codec_of(Touchy), Touchy(secret="hunter2")  # noqa: S106 - a value that must not show
    with pytest.raises(UnstorablePayloadError, match="KeyError") as refused:
        codec.encode(event, NO_METADATA)
    at = datetime(2024, 1, 1, tzinfo=UTC)
    row = StoredEvent(1, "a-1", 1, UUID(int=1), "Special", 1, '{"secret": "hunter2"}', None, None, None, at, at)
    with pytest.raises(UnreadablePayloadError, match="KeyError") as unread:
        codec.decode(row, EVERYTHING)

    with pytest.raises(UnreadablePayloadError, match="KeyError") as unread_in_a_page:
        codec.pages(EVERYTHING).events([row])
    with pytest.raises(UnreadablePayloadError, match="KeyError") as unread_in_a_fold:
        list(codec.pages(EVERYTHING).data("a-1", EventsToFold.of([row]).rows))

    for raised in (refused, unread, unread_in_a_page, unread_in_a_fold):
        assert "hunter2" not in str(raised.value)
        assert raised.value.__cause__ is None


class Inner(BaseModel):
    amount: int


@pytest.mark.parametrize("name", ["metadata", "config", "default", "serialization", "type", "fields", "choices"])
def test_an_error_names_declared_fields_whatever_they_are_called(name: str) -> None:
    fields: Any = {name: (Inner, ...)}
    model = create_model("Named", **fields)
    with pytest.raises(ValidationError) as raised:
        model.model_validate({name: {"amount": "hunter2"}})

    assert summary_of(raised.value, model) == f"{name}.amount: int_parsing"


ANOTHER_FACT: dict[str, tuple[Any, Any]] = {
    "true for one": (1, True),
    "a float for an int": (1, 1.0),
    "minus zero": (0.0, -0.0),
}


@pytest.mark.parametrize(("first", "again"), ANOTHER_FACT.values(), ids=ANOTHER_FACT)
def test_content_that_is_only_equal_is_other_content(first: Any, again: Any) -> None:
    codec, event_id = codec_of(Holds), uuid7()
    recorded = codec.encode(Holds(anything=first), NO_METADATA)._replace(event_id=event_id)
    row = StoredEvent(1, "a-1", 1, *recorded[:-1], recorded_at=recorded.occurred_at)
    repeated, changed = (codec.encode(Holds(anything=value), NO_METADATA) for value in (first, again))

    assert codec.same_content(repeated._replace(event_id=event_id), row)
    assert not codec.same_content(changed._replace(event_id=event_id), row)


def test_the_same_content_may_be_written_in_another_way() -> None:
    codec, event_id = codec_of(Holds), uuid7()
    encoded = codec.encode(Holds(amount=2.0), NO_METADATA)._replace(event_id=event_id)
    other_writing = encoded._replace(data='{"amount": 2}')
    row = StoredEvent(1, "a-1", 1, *other_writing[:-1], recorded_at=encoded.occurred_at)

    assert codec.same_content(encoded, row)
