"""Imports: checked like appends, versions kept, all or nothing by chunks."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import RFC_4122

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore, Metadata
from eventstore.bulk import (
    ImportedEvent,
    ImportRowError,
    ImportVersionError,
    JsonEvent,
    import_events,
    row_event_id,
)
from eventstore.clock import uuid7
from eventstore.errors import (
    ConfigurationError,
    InvalidArgumentError,
    NewerSchemaVersionError,
    UnknownEventTypeError,
    UnstorablePayloadError,
)
from eventstore.testing import memory_store
from fixtures import shop
from fixtures.imports import BEGIN, log, rows
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, UnregisteredEvent, placed


async def test_events_come_in_the_order_of_the_source_with_the_versions_of_their_streams(store: EventStore) -> None:
    result = await import_events(store, rows(250), name="old", chunk=100)

    events = await log(store)
    assert (result.rows, result.imported) == (250, 250)
    assert [event.data.quantity for event in events] == list(range(250))
    assert [event.stream_version for event in events] == [number // 3 + 1 for number in range(250)]
    assert [event.event_id for event in events] == [row_event_id("old", row) for row in range(1, 251)]
    assert events[7].occurred_at == BEGIN + timedelta(seconds=7)
    assert [event async for event in store.read_stream("order-1")] == events[1::3]


async def test_an_imported_event_is_stored_as_an_append_stores_it(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    note = NoteTaken(text='tab\t "quote" \\ back\nline ü 漢 \u2028', number=1e22)
    beside = Metadata("c", "k", "command", "alice", {"shelf": [1, {"x": None}]})
    event_id = uuid7()
    await import_events(store, [ImportedEvent("note-imported", note, None, event_id, BEGIN, None, beside)], name="one")
    await store.append("note-plain", [note], expected_version=NO_STREAM, metadata=beside)

    imported, appended = await connection.fetch(
        "SELECT event_type, schema_version, data::text, metadata::text, correlation_id, causation_id"
        "  FROM eventstore.events ORDER BY global_position"
    )
    assert tuple(imported) == tuple(appended)
    (event,) = await store.read_stream("note-imported").to_list()
    assert (event.event_id, event.occurred_at, event.data, event.metadata) == (event_id, BEGIN, note, beside)


async def test_ids_of_rows_are_the_imports_own_and_always_the_same() -> None:
    assert row_event_id("a", 7) == row_event_id("a", 7)
    assert len({row_event_id(name, row) for name in ("a", "b", "ab") for row in range(1, 100)}) == 297
    assert row_event_id("a", 1).version == 8
    assert row_event_id("a", 1).variant == RFC_4122


async def test_streams_that_exist_go_on_where_they_are(store: EventStore) -> None:
    await store.append("order-1", [placed(), placed()], expected_version=NO_STREAM)

    await import_events(store, [ImportedEvent("order-1", SHIPPED, stream_version=3)], name="late")

    assert [event.stream_version for event in await log(store)] == [1, 2, 3]


@pytest.mark.parametrize("version", [1, 2, 4])
async def test_a_version_that_is_not_the_next_one_is_refused(store: EventStore, version: int) -> None:
    await store.append("order-1", [placed(), placed()], expected_version=NO_STREAM)

    with pytest.raises(ImportVersionError) as raised:
        await import_events(store, [ImportedEvent("order-1", SHIPPED, stream_version=version)], name="late")

    error = raised.value
    assert (error.row, error.stream_id, error.expected, error.found, error.imported) == (1, "order-1", 3, version, 0)
    assert len(await log(store)) == 2


@pytest.mark.parametrize(
    ("bad", "kind", "said"),
    [
        (ImportedEvent("order", placed()), None, "invalid stream id"),
        (ImportedEvent("order-1", UnregisteredEvent()), UnknownEventTypeError, "not registered"),
        (ImportedEvent("order-1", NoteTaken(text="\x00")), UnstorablePayloadError, "NUL"),
        (ImportedEvent("order-1", NoteTaken(text="x", number=float("nan"))), UnstorablePayloadError, "float_type"),
        (ImportedEvent("order-1", placed(), occurred_at=datetime(2024, 1, 1)), None, "aware"),  # noqa: DTZ001 - refused
        (ImportedEvent("order-1", placed(), recorded_at=datetime(2024, 1, 1)), None, "aware"),  # noqa: DTZ001 - refused
        (ImportedEvent("order-1", {"sku": "tea"}), None, "pydantic models, not dict"),  # type: ignore[arg-type]
        (ImportedEvent("order-1", JsonEvent("Ordered", {})), UnknownEventTypeError, "not registered"),
        (ImportedEvent("order-1", JsonEvent("OrderPlaced", {"sku": "hunter2"})), None, "quantity: missing"),
        (ImportedEvent("order-1", JsonEvent("OrderShipped", {"carrier": "x", "q": 1})), None, "no field 'q'"),
        (ImportedEvent("order-1", JsonEvent("OrderPlaced", {}, 3)), NewerSchemaVersionError, "deploy"),
        (ImportedEvent("order-1", JsonEvent("OrderPlaced", {"sku": 1}, 1)), None, "cannot be read"),
        (ImportedEvent("order-1", JsonEvent("OrderPlaced", {"sku": "\x00"}, 1)), UnstorablePayloadError, "NUL"),
        (ImportedEvent("order-1", SHIPPED, metadata=Metadata(extra={"a": {1}})), UnstorablePayloadError, "plain JSON"),
    ],
)
async def test_a_row_that_cannot_be_stored_is_named_and_nothing_of_its_chunk_is_there(
    store: EventStore, bad: ImportedEvent, kind: type[Exception] | None, said: str
) -> None:
    with pytest.raises(ImportRowError, match="row 25: ") as raised:
        await import_events(store, [*rows(24), bad, *rows(5)], name="bad", chunk=10)

    assert said in str(raised.value)
    assert "the first 20 rows are in the log" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert (raised.value.row, raised.value.imported) == (25, 20)
    assert kind is None or isinstance(raised.value.__cause__, kind)
    assert len(await log(store)) == 20


async def test_json_of_an_older_version_is_stored_as_it_is_and_read_through_its_upcasters(store: EventStore) -> None:
    await import_events(store, [ImportedEvent("order-1", JsonEvent("OrderPlaced", {"sku": "tea"}, 1))], name="old")

    (event,) = await log(store)
    (stored,) = await store.log.events_by_ids("order-1", [event.event_id])
    assert event.data == OrderPlaced(sku="tea", quantity=1)
    assert (stored.schema_version, stored.data) == (1, '{"sku":"tea"}')


async def test_recorded_times_are_kept_and_never_fall(store: EventStore) -> None:
    times = [BEGIN, BEGIN, BEGIN + timedelta(days=1)]
    await import_events(store, [ImportedEvent("order-1", placed(), recorded_at=time) for time in times], name="a")
    assert [event.recorded_at for event in await log(store)] == times
    assert [(info.created_at, info.updated_at) async for info in store.list_streams()] == [(times[0], times[-1])]

    with pytest.raises(ImportRowError, match="recorded_at is earlier"):
        await import_events(store, [ImportedEvent("order-1", placed(), recorded_at=BEGIN)], name="b")
    await store.append("order-1", [SHIPPED], expected_version=3)
    assert (await log(store))[-1].recorded_at > times[-1]


async def test_the_same_id_twice_in_a_stream_is_refused_and_in_two_streams_it_is_two_events(store: EventStore) -> None:
    event_id = uuid7()
    one, other = (ImportedEvent(f"order-{key}", placed(), event_id=event_id) for key in (1, 2))

    with pytest.raises(ImportRowError, match="row 3: an earlier row of its stream has the same event_id"):
        await import_events(store, [one, other, one], name="a")
    await import_events(store, [one, other], name="a")
    with pytest.raises(ImportRowError, match="row 2: its event_id is in 'order-1' already"):
        await import_events(store, [*rows(1), one], name="b")

    assert len(await log(store)) == 2


async def test_readers_wait_for_a_chunk_that_is_under_way(store: EventStore, connection: asyncpg.Connection) -> None:
    """COPY goes through the trigger that takes the low-water lock."""
    await store.append("note-1", [NoteTaken(text="before")], expected_version=NO_STREAM)
    async with connection.transaction():
        await connection.execute("LOCK TABLE eventstore.imports IN SHARE MODE")  # the import's first statement waits
        task = asyncio.create_task(import_events(store, rows(10), name="old"))
        await store.append("note-2", [NoteTaken(text="beside")], expected_version=NO_STREAM)
        assert len(await log(store)) == 2
    await task

    assert len(await log(store)) == 12
    held = (
        "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname"
    )
    assert await connection.fetchval(f"{held} = current_database()") == 0


async def test_a_source_may_be_asynchronous(store: EventStore) -> None:
    async def source() -> AsyncIterator[ImportedEvent]:
        for row in rows(300):
            await asyncio.sleep(0)
            yield row

    assert (await import_events(store, source(), name="old", chunk=70)).imported == 300
    assert len(await log(store)) == 300


async def test_a_source_that_fails_leaves_the_chunks_before(store: EventStore) -> None:
    def source() -> Iterator[ImportedEvent]:
        yield from rows(300)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await import_events(store, source(), name="old", chunk=100)

    assert len(await log(store)) in (200, 300)
    assert (await import_events(store, rows(300), name="old")).rows == 300
    assert len(await log(store)) == 300


async def test_chunks_are_bounded_in_bytes_too(store: EventStore) -> None:
    large = [ImportedEvent("note-1", NoteTaken(text=str(number) + "x" * 1_000_000)) for number in range(20)]
    seen: list[int] = []

    await import_events(store, large, name="large", on_progress=lambda progress: seen.append(progress.rows))

    assert seen == [9, 18, 20]


async def test_a_dry_run_refuses_what_a_run_would_and_writes_nothing(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    good = [ImportedEvent("order-1", SHIPPED, stream_version=version) for version in (2, 3, 4)]
    checked = await import_events(store, good, name="a", chunk=1, dry_run=True)
    with pytest.raises(ImportVersionError, match="row 2"):
        await import_events(store, [good[0], good[0]], name="a", chunk=1, dry_run=True)
    known = (await log(store))[0].event_id
    with pytest.raises(ImportRowError, match="row 1: its event_id is in 'order-1' already"):
        await import_events(store, [ImportedEvent("order-1", placed(), event_id=known)], name="a", dry_run=True)

    assert (checked.rows, checked.imported) == (3, 3)
    assert len(await log(store)) == 1
    assert await connection.fetchval("SELECT count(*) FROM eventstore.imports") == 0
    assert (await import_events(store, good, name="a")).imported == 3


async def test_nothing_to_import_is_fine(store: EventStore) -> None:
    assert (await import_events(store, [], name="empty")).rows == 0


@pytest.mark.parametrize("arguments", [{"name": ""}, {"name": "x" * 256}, {"name": "a", "chunk": 0}])
async def test_arguments_that_are_none_are_refused(store: EventStore, arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        await import_events(store, rows(1), **arguments)


async def test_a_store_in_memory_says_that_it_takes_no_imports() -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        await import_events(memory_store(shop.app), rows(1), name="a")


async def test_imports_work_behind_pgbouncer(pgbouncer_dsn: str) -> None:
    async with EventStore.open(pgbouncer_dsn, shop.app, pgbouncer=True) as pooled:
        await import_events(pooled, rows(500), name="old", chunk=100)
        assert [event.data.quantity for event in await log(pooled)] == list(range(500))


async def test_a_json_codec_on_a_pool_of_the_users_changes_nothing(dsn: str) -> None:
    async def set_codec(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec("json", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")

    async with asyncpg.create_pool(dsn, min_size=2, init=set_codec) as pool, EventStore.open(pool, shop.app) as theirs:
        await import_events(theirs, rows(5), name="old")
        assert [event.data for event in await log(theirs)] == [placed(number) for number in range(5)]
