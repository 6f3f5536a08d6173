"""Lines that say their schema version: stored to the letter if they can be read today, however models have changed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, RootModel

from eventstore import NO_STREAM, Application, EventStore, EventTypes, RawEvent, Upcast
from eventstore.bulk import (
    ImportChangedError,
    ImportedEvent,
    ImportRowError,
    ImportUnknownTypeError,
    JsonEvent,
    export_log,
    import_events,
    read_jsonl,
)
from eventstore.codec.payload import MAX_PAYLOAD_BYTES
from eventstore.db.migrating import migrate
from eventstore.errors import (
    InvalidArgumentError,
    NewerSchemaVersionError,
    UnreadablePayloadError,
    UnstorablePayloadError,
)
from fixtures.imports import log
from fixtures.stores import open_store

before, now = EventTypes(), EventTypes()


class Placed(BaseModel):
    """Has got a field with a default since."""

    sku: str


class Painted(BaseModel):
    """Has lost its colour since."""

    wall: str
    colour: str


class Priced(BaseModel):
    """Has a new schema version since."""

    cents: int


class Moved(BaseModel):
    """Has become two events since."""

    to: str


class Sold(BaseModel):
    """Is not registered any more."""

    rate: float


class Tagged(RootModel[list[str]]):
    """Is no object."""


for model in (Placed, Painted, Priced, Moved, Sold, Tagged):
    before.register(model.__name__)(model)
now.register("Tagged")(Tagged)


@now.register("Placed")
class PlacedNow(BaseModel):
    sku: str
    quantity: int = 1


@now.register("Painted")
class PaintedNow(BaseModel):
    wall: str


@now.register("Priced", version=2)
class PricedNow(BaseModel):
    amount: float


@now.register("Weighed")
class Weighed(BaseModel):
    grams: Decimal


@now.upcaster("Priced", from_version=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return {"amount": data["cents"] / 100}


@now.upcaster("Moved", from_version=1)
def _(data: dict[str, Any]) -> Sequence[Upcast]:
    return [Upcast("Placed", 1, {"sku": data["to"]}), Upcast("Painted", 1, {"wall": data["to"]})]


HISTORY = [
    Placed(sku="tea"),
    Painted(wall="north", colour="ü \u2028 漢"),
    Priced(cents=1250),
    Moved(to="attic"),
    Tagged(["a", "b"]),
    Sold(rate=1e-7),
]


@pytest.fixture
async def old(dsn: str) -> AsyncIterator[EventStore]:
    """A store of the application as it was."""
    async with open_store(dsn, Application("shop", events=before)) as old:
        yield old


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store of the application as it is now, beside the old one."""
    await migrate(dsn, schema="moved")
    async with EventStore.open(dsn, Application("shop", events=now), schema="moved") as moved:
        yield moved


async def lines_of(store: EventStore) -> list[bytes]:
    return [line.encode() async for page in export_log(store) for line in page]


def without_positions(lines: Sequence[bytes]) -> list[bytes]:
    """What an export says, to the letter, but for the positions, which are each log's own."""
    return [line.partition(b", ")[2] for line in lines]


def line(event_type: str, data: str, version: int | None = 1, stream_id: str = "item-1") -> bytes:
    said = "" if version is None else f', "schema_version": {version}'
    return f'{{"data": {data}, "stream_id": "{stream_id}", "event_type": "{event_type}"{said}}}\n'.encode()


async def stored(store: EventStore) -> list[tuple[int, str]]:
    events = await store.read_stream("item-1", of=RawEvent).to_list()
    there = await store.log.events_by_ids("item-1", [event.event_id for event in events])
    return [(event.schema_version, event.data) for event in sorted(there, key=lambda event: event.stream_version)]


async def bring(store: EventStore, *lines: bytes, name: str = "a", **settings: Any) -> None:
    await import_events(store, read_jsonl(lines), name=name, **settings)


async def test_an_export_imported_where_models_have_changed_gives_the_same_lines_again(
    old: EventStore, store: EventStore
) -> None:
    await old.append("item-1", HISTORY, expected_version=NO_STREAM)
    exported = await lines_of(old)

    await bring(store, *exported, chunk=2, unknown="keep")

    assert len(exported) == len(HISTORY)
    assert without_positions(await lines_of(store)) == without_positions(exported)
    today = [event.data async for event in store.read_all(of=PlacedNow | PaintedNow | PricedNow | Tagged)]
    assert today == [
        PlacedNow(sku="tea", quantity=1),
        PaintedNow(wall="north"),
        PricedNow(amount=12.5),
        PlacedNow(sku="attic", quantity=1),
        PaintedNow(wall="attic"),
        Tagged(["a", "b"]),
    ]


@pytest.mark.parametrize(
    ("event_type", "data", "read"),
    [
        ("Placed", '{"sku":"tea"}', PlacedNow(sku="tea", quantity=1)),
        ("Painted", '{"wall":"north","colour":"red"}', PaintedNow(wall="north")),
        ("Priced", '{"cents":5}', PricedNow(amount=0.05)),
        ("Placed", r'{ "sku" : "\u00fc\/", "quantity": 2, "rate": 1e22, "long": 0.1000000000000000000001 }', None),
    ],
    ids=["a field with a default added", "a field removed", "an older schema version", "other spelling"],
)
async def test_a_line_that_says_its_schema_version_is_stored_to_the_letter(
    store: EventStore, event_type: str, data: str, read: BaseModel | None
) -> None:
    await bring(store, line(event_type, data))

    assert await stored(store) == [(1, data)]
    (event,) = await log(store)
    assert event.data == (read or PlacedNow(sku="ü/", quantity=2))


async def test_json_that_says_its_schema_version_is_stored_as_it_is_given_too(store: EventStore) -> None:
    rows = [JsonEvent("Placed", {"sku": "tea"}, 1), JsonEvent("Placed", '{"sku": "cup"}', 1)]

    await import_events(store, [ImportedEvent("item-1", row) for row in rows], name="a")

    assert await stored(store) == [(1, '{"sku":"tea"}'), (1, '{"sku": "cup"}')]


async def test_a_line_without_a_schema_version_becomes_an_event_of_todays_model(store: EventStore) -> None:
    await bring(store, line("Placed", '{"sku": "tea"}', None))
    await import_events(store, [ImportedEvent("item-1", JsonEvent("Placed", '{"sku": "cup"}'))], name="text")

    assert await stored(store) == [(1, '{"sku":"tea","quantity":1}'), (1, '{"sku":"cup","quantity":1}')]


async def test_digits_that_a_float_has_no_room_for_are_not_lost_on_the_way_into_a_decimal(store: EventStore) -> None:
    for text in ("1.10", "12345678901234567890", '"12345678901234567.89"'):
        await bring(store, line("Weighed", f'{{"grams": {text}}}', None), name=text)
    for version in (1, None):
        with pytest.raises(ImportRowError, match="line 1: it holds a number with more digits than a float keeps"):
            await bring(store, line("Weighed", '{"grams": 12345678901234567.89}', version))

    said = ["1.1", "12345678901234567890", "12345678901234567.89"]
    assert await stored(store) == [(1, f'{{"grams":"{number}"}}') for number in said]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (line("Painted", '{"wall": "north", "colour": "hunter2"}', None), "its model has no field 'colour'"),
        (line("Tagged", '["hunter2"]', None), "data: dict_type"),
    ],
)
async def test_a_line_without_a_schema_version_holds_the_fields_of_its_model_and_no_others(
    store: EventStore, bad: bytes, said: str
) -> None:
    with pytest.raises(ImportRowError, match=f"line 1: {said}") as raised:
        await bring(store, bad)

    assert "hunter2" not in str(raised.value)
    assert await log(store) == []


@pytest.mark.parametrize("version", [1, None])
async def test_a_type_that_is_not_registered_is_refused_with_what_to_do(store: EventStore, version: int | None) -> None:
    with pytest.raises(ImportRowError, match=r"line 2: .*'Sold' is not registered: .*unknown='keep'") as raised:
        await bring(store, line("Placed", '{"sku":"tea"}'), line("Sold", '{"rate": 1}', version))

    assert isinstance(raised.value.__cause__, ImportUnknownTypeError)
    assert await log(store) == []


async def test_a_type_that_is_not_registered_is_kept_as_it_is_where_that_is_said(store: EventStore) -> None:
    await bring(store, line("Sold", '{"rate": 1.50}', 7), unknown="keep")

    assert await stored(store) == [(7, '{"rate": 1.50}')]
    (event,) = await store.read_all(of=RawEvent).to_list()
    assert (event.event_type, event.schema_version, event.data.data) == ("Sold", 7, {"rate": 1.5})


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (line("Sold", '{"rate": 1}', None), ImportUnknownTypeError, "that say their schema version"),
        (line("Sold", '"hunter2\\u0000"'), UnstorablePayloadError, "NUL"),
        (line("Sold", '"hunter2\\ud800"'), UnstorablePayloadError, "surrogate"),
        (line("Sold", '{"rate": 1e400}'), None, "too large"),
        (line("Priced", '{"amount": 1' + "0" * 400 + "}", 2), None, "too large"),
        (line("Sold", "[" * 65 + "]" * 65), UnstorablePayloadError, "deeper"),
        (line("Sold", '"' + "x" * MAX_PAYLOAD_BYTES + '"'), UnstorablePayloadError, "at most"),
        (line("Sold", " " * MAX_PAYLOAD_BYTES + '{"rate": 1, "hunter2": NaN}'), None, "NaN"),
        (line("Sold", '{"rate": 1, "rate": 2}'), None, "a name twice"),
        (line("Sold", "{}", 2**31), InvalidArgumentError, "schema versions count"),
        (line("S" * 256, "{}"), InvalidArgumentError, "255"),
        (line("Sold\\u0000", "{}"), InvalidArgumentError, "NUL"),
        (line("Placed", "{}"), UnreadablePayloadError, "sku: missing"),
        (line("Priced", "{}", 3), NewerSchemaVersionError, "deploy"),
    ],
)
async def test_what_is_kept_unread_is_json_that_postgresql_can_hold(
    store: EventStore, bad: bytes, kind: type[Exception] | None, said: str
) -> None:
    with pytest.raises(ImportRowError, match=f"line 2: .*{said}") as raised:
        await bring(store, line("Sold", '{"rate": 1}'), bad, unknown="keep")

    assert kind is None or isinstance(raised.value.__cause__, kind)
    assert "hunter2" not in str(raised.value)
    assert await log_raw(store) == []


async def log_raw(store: EventStore) -> list[Any]:
    return await store.read_all(of=RawEvent).to_list()


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (line("Placed", '{"sku": ["hunter2"]}'), UnreadablePayloadError, "cannot be read: sku: string_type"),
        (line("Placed", '["hunter2"]'), UnreadablePayloadError, "cannot be read: the event: model_type"),
        (line("Priced", '{"hunter2": 1}'), UnreadablePayloadError, "its upcaster raised KeyError"),
        (line("Priced", '{"cents": 1}', 2), UnreadablePayloadError, "amount: missing"),
        (line("Priced", '{"cents": 1}', 3), NewerSchemaVersionError, "deploy"),
        (line("Placed", '{"sku": "hunter2\\u0000"}'), UnstorablePayloadError, "NUL"),
        (line("Painted", '{"wall": "", "hunter2": {"\\u0000": 1}}'), UnstorablePayloadError, "NUL"),
        (line("Placed", '{"sku": "hunter2", "sku": "b"}'), None, "a name twice"),
        (line("Painted", '{"wall": "", "hunter2": -1e999}'), None, "too large"),
    ],
)
async def test_a_line_that_no_read_could_read_is_refused_and_nothing_is_stored(
    store: EventStore, bad: bytes, kind: type[Exception] | None, said: str
) -> None:
    with pytest.raises(ImportRowError, match=f"line 2: .*{said}") as raised:
        await bring(store, line("Placed", '{"sku":"tea"}'), bad)

    assert kind is None or isinstance(raised.value.__cause__, kind)
    assert "hunter2" not in str(raised.value)
    assert await log_raw(store) == []


async def test_the_limit_of_an_event_counts_its_text_and_not_what_it_says(store: EventStore) -> None:
    spaces = " " * (MAX_PAYLOAD_BYTES - len('{"sku":"tea"}'))
    fits, over = ('{"sku":' + spaces + more + '"tea"}' for more in ("", " "))

    await bring(store, line("Placed", fits))
    with pytest.raises(ImportRowError, match="at most"):
        await bring(store, line("Placed", over), name="b")

    assert await stored(store) == [(1, fits)]


@pytest.mark.parametrize(
    "text", ["{", "", "\ufeff{}", '{"sku": "\ud800"}', '{"sku": NaN}', '{"sku": "a\n"}', "[" * 9999]
)
@pytest.mark.parametrize("version", [1, None])
async def test_text_that_is_no_json_is_refused(store: EventStore, text: str, version: int | None) -> None:
    with pytest.raises(ImportRowError, match="row 1: "):
        await import_events(store, [ImportedEvent("item-1", JsonEvent("Placed", text, version))], name="a")

    assert await log(store) == []


async def test_data_over_several_lines_is_exported_on_one_and_comes_in_as_it_stands_there(
    old: EventStore, store: EventStore
) -> None:
    pretty = JsonEvent("Placed", '\n{\n  "sku": "a\\nb"\n}\n', 1)
    await import_events(old, [ImportedEvent("item-1", pretty)], name="pretty")
    exported = await lines_of(old)

    await bring(store, *exported)

    assert len(exported) == 1
    assert without_positions(await lines_of(store)) == without_positions(exported)
    assert [event.data.sku for event in await log(store)] == ["a\nb"]


async def test_an_import_of_old_lines_goes_on_where_it_was(old: EventStore, store: EventStore) -> None:
    await old.append("item-1", HISTORY, expected_version=NO_STREAM)
    exported = await lines_of(old)
    for count in (*range(1, len(exported) + 1), len(exported)):
        await bring(store, *exported[:count], unknown="keep")
    assert without_positions(await lines_of(store)) == without_positions(exported)

    changed = json.loads(exported[-1]) | {"data": {"rate": 2}}
    with pytest.raises(ImportChangedError):
        await bring(store, *exported[:-1], json.dumps(changed).encode(), unknown="keep")


async def test_a_dry_run_refuses_what_could_not_be_read(store: EventStore) -> None:
    with pytest.raises(ImportRowError, match=r"line 1: .*not registered"):
        await bring(store, line("Sold", "{}"), dry_run=True)
    await bring(store, line("Sold", "{}"), dry_run=True, unknown="keep")

    assert await log_raw(store) == []


@pytest.mark.parametrize("unknown", ["drop", True, None, ["keep"]])
async def test_what_becomes_of_unknown_types_is_said_in_one_of_two_words(store: EventStore, unknown: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="unknown is 'refuse' or 'keep'"):
        await bring(store, unknown=unknown)
