"""Older schema versions become today's events; what cannot is said with its place, and without its payload."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from traceback import format_exception
from typing import Any

import pytest
from pydantic import BaseModel

from eventstore import EventTypes, RawEvent, Upcast
from eventstore.clock import uuid7
from eventstore.codec import Codec, Selection, StoredEvent
from eventstore.codec.registry import Data
from eventstore.errors import (
    CodecError,
    ConfigurationError,
    NewerSchemaVersionError,
    UnknownEventTypeError,
    UnreadablePayloadError,
    UpcastError,
)
from eventstore.testing import FakeClock

SECRET = "hunter2"  # noqa: S105 - what must not be in an error


class Renamed(BaseModel):
    street: str
    city: str
    country: str = "NL"


class Noted(BaseModel):
    text: str


class Moved(BaseModel):
    city: str


@pytest.fixture
def types() -> EventTypes:
    """A registry whose `Renamed` is at version 3, with upcasters from 1 and 2."""
    types = EventTypes()
    types.register("Renamed", version=3)(Renamed)
    types.register("Noted")(Noted)
    types.register("Moved")(Moved)

    @types.upcaster("Renamed", from_version=1)
    def _(data: Data) -> Data:
        street, city = data["address"].split(", ")
        return {"street": street, "town": city}

    @types.upcaster("Renamed", from_version=2)
    def _(data: Data) -> Data:
        return {"street": data["street"], "city": data["town"]}

    return types


def stored(event_type: str, version: int, data: str) -> StoredEvent:
    now = FakeClock()()
    return StoredEvent(7, "person-1", 5, uuid7(), event_type, version, data, None, None, None, now, now)


def decode(types: EventTypes, event: StoredEvent, of: Any = None) -> list[Any]:
    codec = Codec(types, clock=FakeClock(), new_id=uuid7, max_payload=1024)
    return [recorded.data for recorded in codec.decode(event, Selection.of(of))]


TODAY = Renamed(street="Main", city="Delft")


@pytest.mark.parametrize(
    ("version", "data"),
    [
        (1, '{"address": "Main, Delft"}'),
        (2, '{"street": "Main", "town": "Delft"}'),
        (3, '{"street": "Main", "city": "Delft"}'),
    ],
)
def test_every_version_is_lifted_to_todays(types: EventTypes, version: int, data: str) -> None:
    assert decode(types, stored("Renamed", version, data)) == [TODAY]


def test_a_lifted_event_says_todays_type_and_keeps_its_place(types: EventTypes) -> None:
    old = stored("Renamed", 1, '{"address": "Main, Delft"}')
    codec = Codec(types, clock=FakeClock(), new_id=uuid7, max_payload=1024)

    (event,) = codec.decode(old, Selection.of(None))

    assert (event.event_type, event.schema_version) == ("Renamed", 3)
    assert (event.stream_id, event.stream_version, event.event_id) == ("person-1", 5, old.event_id)


def test_an_event_can_become_several(types: EventTypes) -> None:
    @types.upcaster("Legacy", from_version=1)
    def _(data: Data) -> Sequence[Upcast]:
        return [Upcast("Noted", 1, {"text": data["note"]}), Upcast("Renamed", 1, {"address": data["address"]})]

    old = stored("Legacy", 1, '{"note": "x", "address": "Main, Delft"}')

    assert decode(types, old) == [Noted(text="x"), TODAY]
    assert decode(types, old, Renamed) == [TODAY]
    assert decode(types, old, Moved) == []
    assert decode(types, old, Noted | Moved) == [Noted(text="x")]


def test_an_event_can_become_none(types: EventTypes) -> None:
    @types.upcaster("Legacy", from_version=1)
    def _(_data: Data) -> Sequence[Upcast]:
        return []

    assert decode(types, stored("Legacy", 1, "{}")) == []


def test_the_query_for_a_model_asks_for_all_names_that_can_become_it(types: EventTypes) -> None:
    @types.upcaster("Legacy", from_version=1)
    def _(_data: Data) -> Sequence[Upcast]:
        return []

    assert Selection.of(Noted).stored_names(types) == ["Legacy", "Noted", "Renamed"]
    assert Selection.of(None).stored_names(types) is None
    assert Selection.of(Noted | RawEvent).stored_names(types) is None


def test_an_upcaster_must_not_keep_what_it_was_given(types: EventTypes) -> None:
    """Each reading parses anew, so an upcaster that changes its argument spoils nobody's."""

    @types.upcaster("Legacy", from_version=1)
    def _(data: Data) -> Sequence[Upcast]:
        return [Upcast("Noted", 1, {"text": data.pop("note")})]

    old = stored("Legacy", 1, '{"note": "x"}')

    assert decode(types, old) == decode(types, old)


def fails(data: Data) -> Data:
    raise KeyError(data["password"])


BROKEN: dict[str, tuple[Callable[[Data], Any], str]] = {
    "raises": (fails, "raised KeyError"),
    "returns nothing": (lambda _data: None, "neither"),
    "returns text": (lambda _data: "text", "neither"),
    "returns bare dicts": (lambda data: [data], "neither"),
    "returns what is no JSON": (lambda _data: [Upcast("Noted", 1, {"text": object()})], "no JSON"),
    "leads round in circles": (lambda data: [Upcast("Legacy", 1, data)], "circles"),
    "leads to a version that nobody lifts": (lambda data: data, "no upcaster from version 2"),
}


@pytest.mark.parametrize(("upcaster", "problem"), BROKEN.values(), ids=BROKEN)
def test_a_broken_upcaster_is_named_with_the_events_place_and_no_payload(
    types: EventTypes, upcaster: Callable[[Data], Any], problem: str
) -> None:
    class Legacy(BaseModel):
        text: str

    types.register("Legacy", version=9)(Legacy)
    types.upcaster("Legacy", from_version=1)(upcaster)

    with pytest.raises(UpcastError) as raised:
        decode(types, stored("Legacy", 1, f'{{"password": "{SECRET}"}}'))

    error = raised.value
    assert problem in error.problem
    assert (error.event_type, error.schema_version) == ("Legacy", 1)
    assert (error.stream_id, error.stream_version) == ("person-1", 5)
    assert SECRET not in f"{error!r} {''.join(format_exception(error))}"
    assert isinstance(error, CodecError)
    assert not error.retryable


def test_lifted_data_that_does_not_validate_names_the_field_and_not_the_value(types: EventTypes) -> None:
    with pytest.raises(UnreadablePayloadError) as raised:
        decode(types, stored("Noted", 1, f'{{"text": ["{SECRET}"]}}'))

    error = raised.value
    assert "text: string_type" in error.problem
    assert (error.stream_id, error.stream_version, error.schema_version) == ("person-1", 5, 1)
    assert SECRET not in f"{error} {error!r} {error.__cause__}"


def test_a_newer_schema_version_is_an_error_that_says_what_is_known(types: EventTypes) -> None:
    with pytest.raises(NewerSchemaVersionError) as raised:
        decode(types, stored("Renamed", 4, f'{{"password": "{SECRET}"}}'))

    error = raised.value
    assert (error.event_type, error.found, error.known) == ("Renamed", 4, 3)
    assert (error.stream_id, error.stream_version) == ("person-1", 5)
    assert SECRET not in f"{error} {error!r}"


def test_an_unknown_type_is_an_error_unless_it_may_come_raw(types: EventTypes) -> None:
    event = stored("Forgotten", 1, '{"a": 1}')

    with pytest.raises(UnknownEventTypeError):
        decode(types, event)
    assert decode(types, event, RawEvent) == [RawEvent({"a": 1})]
    assert decode(types, event, Noted | RawEvent) == [RawEvent({"a": 1})]


@pytest.mark.parametrize(
    ("version", "data"), [(1, {"address": "Main, Delft"}), (3, {"street": "Main", "city": "Delft"})]
)
def test_raw_in_a_union_is_what_is_not_among_the_models_whatever_its_version(
    types: EventTypes, version: int, data: Data
) -> None:
    event = stored("Renamed", version, json.dumps(data))

    assert decode(types, event, RawEvent) == [RawEvent(data)]
    assert decode(types, event, Noted | RawEvent) == [RawEvent(data)]
    assert decode(types, event, Renamed | RawEvent) == [TODAY]


# --- the registry --------------------------------------------------------------------------------------------------


def test_a_name_or_a_model_is_registered_once(types: EventTypes) -> None:
    with pytest.raises(ConfigurationError, match="already"):
        types.register("Noted")(type("Other", (BaseModel,), {}))
    with pytest.raises(ConfigurationError, match="already"):
        types.register("Other")(Noted)
    with pytest.raises(ConfigurationError, match="already"):
        types.upcaster("Renamed", from_version=1)(lambda data: data)


@pytest.mark.parametrize("name", ["", "x" * 256, "a\x00b"])
def test_a_name_that_cannot_be_stored_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        EventTypes().register(name)


def test_versions_count_from_1() -> None:
    with pytest.raises(ConfigurationError):
        EventTypes().register("Noted", version=0)


def test_only_models_are_registered() -> None:
    with pytest.raises(ConfigurationError, match="pydantic"):
        EventTypes().register("Noted")(dict)  # type: ignore[type-var]


def test_registering_returns_the_class_unchanged() -> None:
    assert EventTypes().register("Noted")(Noted) is Noted


def test_registries_are_composed(types: EventTypes) -> None:
    whole = EventTypes()
    whole.include(types)
    whole.include(types)  # twice is no harm

    assert len(whole) == 3
    assert Noted in whole
    assert decode(whole, stored("Renamed", 1, '{"address": "Main, Delft"}')) == [TODAY]


def test_registries_that_contradict_each_other_are_refused(types: EventTypes) -> None:
    other = EventTypes()
    other.register("Noted", version=2)(Noted)

    with pytest.raises(ConfigurationError):
        types.include(other)
