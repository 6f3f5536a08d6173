"""A reader of the log never skips an event that commits late, and is not held back by anybody else's business."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.clock import uuid7
from eventstore.db.migrating import migrate
from eventstore.store.log import Mark
from eventstore.subscriptions import Checkpoint, LogFollower
from eventstore.testing.databases import DatabasesForTests
from fixtures.shop import app, placed
from fixtures.stores import connected, open_store


@asynccontextmanager
async def open_transaction(dsn: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection inside a transaction that is rolled back at the end of the block."""
    async with connected(dsn) as connection:
        transaction = connection.transaction()
        await transaction.start()
        yield connection
        await transaction.rollback()


INSERT = """
    INSERT INTO eventstore.events
        (stream_id, stream_version, event_id, event_type, schema_version, data, occurred_at, recorded_at)
    VALUES ($1, 1, gen_random_uuid(), 'OrderShipped', 1, '{"carrier": "x"}', now(), now())
"""


async def streams_read(store: EventStore) -> list[str]:
    return [event.stream_id async for event in store.read_all()]


async def floors(connection: asyncpg.Connection) -> list[int]:
    """Return the floors that are held in this database, whoever holds them."""
    rows = await connection.fetch(
        "SELECT (classid::bigint << 32 | objid::bigint) & x'ffffffffffff'::bigint FROM pg_locks"
        " WHERE locktype = 'advisory' AND mode = 'ShareLock'"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    return sorted(row[0] for row in rows)


# --- late commits --------------------------------------------------------------------------------------------------


async def test_readers_stay_below_a_transaction_that_has_drawn_a_position(dsn: str, store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_transaction(dsn) as connection:
        async with store.bind(connection) as tx:
            await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await store.append("order-2", [placed()], expected_version=NO_STREAM)

        assert await streams_read(store) == ["order-1"]
    assert await streams_read(store) == ["order-1", "order-2"]


@pytest.mark.parametrize("way", ["insert", "copy"])
async def test_rows_that_come_another_way_hold_readers_back_too(dsn: str, store: EventStore, way: str) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_transaction(dsn) as connection:
        if way == "insert":
            await connection.execute(INSERT, "order-late")
        else:
            now = await connection.fetchval("SELECT now()")
            await connection.copy_records_to_table(
                "events",
                schema_name="eventstore",
                columns=[
                    "stream_id",
                    "stream_version",
                    "event_id",
                    "event_type",
                    "schema_version",
                    "data",
                    "occurred_at",
                    "recorded_at",
                ],
                records=[("order-late", 1, uuid7(), "OrderShipped", 1, '{"carrier": "x"}', now, now)],
            )
        await store.append("order-2", [placed()], expected_version=NO_STREAM)

        assert await streams_read(store) == ["order-1"]


async def test_a_rolled_back_savepoint_forgets_the_lock_and_that_it_was_taken(dsn: str, store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_transaction(dsn) as connection, store.bind(connection) as tx:
        savepoint = connection.transaction()
        await savepoint.start()
        await tx.append("order-undone", [placed()], expected_version=NO_STREAM)
        assert await floors(connection) == [1]
        await savepoint.rollback()
        assert await floors(connection) == []
        await store.append("order-2", [placed()], expected_version=NO_STREAM)
        assert await streams_read(store) == ["order-1", "order-2"]

        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await store.append("order-3", [placed()], expected_version=NO_STREAM)

        assert len(await floors(connection)) == 1
        assert await streams_read(store) == ["order-1", "order-2"]


async def test_an_inner_savepoint_keeps_the_outer_lock(dsn: str, store: EventStore) -> None:
    async with open_transaction(dsn) as connection, store.bind(connection) as tx:
        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        savepoint = connection.transaction()
        await savepoint.start()
        await tx.append("order-undone", [placed()], expected_version=NO_STREAM)
        await savepoint.rollback()
        await tx.append("order-later", [placed()], expected_version=NO_STREAM)

        assert await floors(connection) == [0]


async def test_one_lock_is_enough_for_a_transaction_of_many_appends(dsn: str, store: EventStore) -> None:
    async with open_transaction(dsn) as connection, store.bind(connection) as tx:
        for number in range(100):
            await tx.append(f"order-{number}", [placed()], expected_version=NO_STREAM)

        assert await floors(connection) == [0]


async def test_a_connection_takes_the_lock_anew_in_each_transaction(dsn: str, store: EventStore) -> None:
    async with connected(dsn) as connection:
        for number in range(3):
            async with connection.transaction(), store.bind(connection) as tx:
                await tx.append(f"order-{number}", [placed()], expected_version=NO_STREAM)
                assert await floors(connection) == [number]
        assert await floors(connection) == []


# --- who is held back ----------------------------------------------------------------------------------------------


async def test_two_stores_in_one_database_do_not_hold_each_other_back(dsn: str, store: EventStore) -> None:
    await migrate(dsn, schema="other")
    async with EventStore.open(dsn, app, schema="other") as other, other.transaction() as tx:
        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await store.append("order-1", [placed()], expected_version=NO_STREAM)

        assert await streams_read(store) == ["order-1"]
        assert await streams_read(other) == []


async def test_a_store_in_another_database_of_the_server_holds_nobody_back(
    store: EventStore, postgres_server: DatabasesForTests
) -> None:
    elsewhere = postgres_server.create()
    try:
        async with open_store(elsewhere) as other, other.transaction() as tx:
            await tx.append("order-late", [placed()], expected_version=NO_STREAM)
            await store.append("order-1", [placed()], expected_version=NO_STREAM)
            assert await streams_read(store) == ["order-1"]
    finally:
        postgres_server.drop(elsewhere)


async def test_locks_of_the_users_own_hold_nobody_back(dsn: str, store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_transaction(dsn) as connection:
        for key in (0, 1, -1, 4711, 2**62):
            await connection.execute("SELECT pg_advisory_xact_lock_shared($1::bigint)", key)
        await connection.execute("SELECT pg_advisory_xact_lock_shared(1, 1)")
        await connection.execute("CREATE TABLE mine ()")  # a write transaction that has appended nothing

        assert await streams_read(store) == ["order-1"]


# --- following -----------------------------------------------------------------------------------------------------


async def test_a_follower_asks_for_the_mark_only_when_it_may_have_moved(store: EventStore) -> None:
    asked = 0
    settled = store.log.settled

    async def counted() -> Mark:
        nonlocal asked
        asked += 1
        return await settled()

    store.log.settled = counted  # type: ignore[method-assign]
    follower = LogFollower(store.log, Checkpoint())
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    assert await follower.next_now() is not None
    for _ in range(20):
        assert await follower.next_now() is None

    assert asked == 2  # for the event, and for what may have come with it


async def test_numbers_that_a_sequence_hands_out_again_are_not_passed_over(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """After a crash a sequence can step back to numbers that were drawn and never committed."""
    follower = LogFollower(store.log, Checkpoint())
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    assert await follower.next_now() is not None
    await connection.execute("SELECT setval('eventstore.events_global_position_seq', 100)")
    assert await follower.next_now() is None
    await connection.execute("SELECT setval('eventstore.events_global_position_seq', 1)")
    await store.append("order-2", [placed()], expected_version=NO_STREAM)

    batch = await follower.next_now()

    assert batch is not None
    assert [event.stream_id for event in batch.events] == ["order-2"]


async def test_a_follower_beside_many_writers_misses_nothing_and_keeps_the_order(dsn: str, store: EventStore) -> None:
    """Writers commit late, roll back, and use savepoints, in many sessions at once."""
    chance = random.Random(20120301)
    seen: list[tuple[str, int]] = []
    committed = 0
    ended = asyncio.Event()

    async def follow() -> None:
        async for batch in LogFollower(store.log, Checkpoint(), batch=7):
            seen.extend((event.stream_id, event.stream_version) for event in batch.events)
            if ended.is_set() and len(seen) == committed:
                return

    async def write(number: int) -> None:
        nonlocal committed
        async with connected(dsn) as connection:
            for _ in range(12):
                transaction = connection.transaction()
                await transaction.start()
                async with store.bind(connection) as tx:
                    for _ in range(chance.randint(1, 3)):
                        await tx.append(f"order-{number}", [placed()], expected_version=ANY)
                        await asyncio.sleep(chance.random() / 200)
                    appended = sum(len(ids) for ids in tx.written.values())
                if chance.random() < 0.3:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    committed += appended

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(number) for number in range(12)))
    committed += 1
    ended.set()
    await store.append("order-last", [placed()], expected_version=NO_STREAM)
    async with asyncio.timeout(10):
        await following

    assert seen == [(event.stream_id, event.stream_version) async for event in store.read_all()]
    for number in range(12):
        versions = [version for stream_id, version in seen if stream_id == f"order-{number}"]
        assert versions == list(range(1, len(versions) + 1))
