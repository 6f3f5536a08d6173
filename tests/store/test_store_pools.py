"""A pool or a connection that is passed in is used as it is: never closed, never reconfigured."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from eventstore import ANY, NO_STREAM, EventStore, Metadata
from eventstore.errors import (
    ClosedError,
    ConfigurationError,
    InvalidArgumentError,
    TransactionAbortedError,
    TransactionConflictError,
    WrongEventLoopError,
    WrongExpectedVersionError,
)
from eventstore.testing.databases import blocking
from fixtures.shop import SHIPPED, Order, app, placed
from fixtures.stores import connected, open_store


async def versions(store: EventStore, stream_id: str = "order-1") -> list[int]:
    return [event.stream_version async for event in store.read_stream(stream_id)]


# --- an existing pool ----------------------------------------------------------------------------------------------


async def eccentric(connection: asyncpg.Connection) -> None:
    """Set a connection up as users do: JSON in and out as objects, times as text, and a schema of their own first."""
    for name in ("json", "jsonb"):
        await connection.set_type_codec(name, schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
    await connection.execute("CREATE SCHEMA IF NOT EXISTS mine; CREATE TABLE IF NOT EXISTS mine.events (n int)")
    await connection.execute("SET search_path = mine")


@pytest.fixture
async def pool(dsn: str) -> AsyncIterator[asyncpg.Pool]:
    """A pool of the user's."""
    async with connected(dsn) as connection:
        await eccentric(connection)
    async with asyncpg.create_pool(
        dsn, min_size=1, max_size=3, init=eccentric, reset=lambda _: asyncio.sleep(0)
    ) as pool:
        yield pool


async def test_a_store_on_an_existing_pool_is_untouched_by_its_codecs(pool: asyncpg.Pool, store: EventStore) -> None:
    full = Metadata(actor="alice", extra={"a": [1]})
    async with EventStore.open(pool, app) as mine:
        await mine.append("order-1", [placed(2), SHIPPED], expected_version=NO_STREAM, metadata=full)
        by_mine = await mine.read_stream("order-1").to_list()
    by_ours = await store.read_stream("order-1").to_list()

    assert by_mine == by_ours
    assert [event.data for event in by_ours] == [placed(2), SHIPPED]
    assert by_ours[0].metadata == full


async def test_what_it_stored_is_an_object_and_no_quoted_text(
    pool: asyncpg.Pool, connection: asyncpg.Connection
) -> None:
    async with EventStore.open(pool, app) as mine:
        await mine.append("order-1", [placed()], expected_version=NO_STREAM)

    assert await connection.fetchval("SELECT json_typeof(data) FROM eventstore.events") == "object"


@pytest.mark.parametrize(
    ("kind", "encoder", "decoder"),
    [
        ("uuid", str, str),
        ("timestamptz", datetime.isoformat, str),
        ("timestamptz", str, lambda text: datetime.fromisoformat(text).replace(tzinfo=None)),
        ("int8", str, Decimal),
        ("text", str.upper, str),
        ("interval", abs, int),
    ],
)
async def test_a_pool_whose_codecs_would_make_something_else_of_events_is_refused(
    dsn: str, kind: str, encoder: Any, decoder: Any
) -> None:
    async def init(connection: asyncpg.Connection) -> None:
        await connection.set_type_codec(kind, schema="pg_catalog", encoder=encoder, decoder=decoder)

    async with asyncpg.create_pool(dsn, min_size=1, max_size=2, init=init) as pool:
        with pytest.raises(ConfigurationError, match=r"set_type_codec.*give the store a pool without them"):
            async with EventStore.open(pool, app):
                pytest.fail("it was opened")


async def test_an_existing_pool_is_neither_closed_nor_reconfigured(pool: asyncpg.Pool) -> None:
    async with EventStore.open(pool, app) as mine, mine.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        await tx.connection.execute("INSERT INTO events VALUES (1)")

    async with pool.acquire() as one, pool.acquire() as two, pool.acquire() as three:
        for connection in (one, two, three):
            assert await connection.fetchval("SHOW search_path") == "mine"
            assert await connection.fetchval("SELECT n FROM events") == 1
            assert await connection.fetchval("SELECT '[1]'::json") == [1]
            assert await connection.fetchval("SHOW application_name") != "eventstore"


async def test_snapshots_and_repositories_work_on_an_existing_pool(pool: asyncpg.Pool) -> None:
    async with EventStore.open(pool, app) as mine:
        await mine.repository(Order).execute("1", lambda order: order.place("tea"))
        assert (await mine.repository(Order).load("1")).state.status == "placed"


@pytest.mark.parametrize("size", [0, 1, -1])
async def test_a_pool_that_is_too_small_is_refused(dsn: str, size: int) -> None:
    with pytest.raises(ConfigurationError, match="at least 2"):
        async with EventStore.open(dsn, app, pool_size=size):
            pytest.fail("it was opened")


async def test_an_existing_pool_that_is_too_small_is_refused(dsn: str) -> None:
    async with asyncpg.create_pool(dsn, min_size=1, max_size=1) as pool:
        with pytest.raises(ConfigurationError, match="at least 2"):
            async with EventStore.open(pool, app):
                pytest.fail("it was opened")


async def test_the_smallest_pool_is_enough_for_everything_at_once(dsn: str) -> None:
    async with EventStore.open(dsn, app, pool_size=2) as store:
        await asyncio.gather(
            *(store.append(f"order-{number}", [placed()], expected_version=NO_STREAM) for number in range(20))
        )
        assert len(await store.read_all().to_list()) == 20


async def test_an_append_on_a_pool_that_its_owner_has_closed_is_refused_and_does_not_wait(
    pool: asyncpg.Pool,
) -> None:
    async with EventStore.open(pool, app) as store:
        await pool.close()
        async with asyncio.timeout(5):
            with pytest.raises(ClosedError, match="pool"):
                await store.append("order-1", [placed()], expected_version=NO_STREAM)
            with pytest.raises(ClosedError, match="pool"):
                await store.stream_info("order-1")


async def test_a_store_is_refused_in_another_event_loop(store: EventStore) -> None:
    """In a thread with a loop of its own, where the driver would fail in strange ways, or hang."""
    await store.append("order-1", [placed()], expected_version=NO_STREAM)

    async def reading() -> list[Any]:
        return await store.read_stream("order-1").to_list()

    for elsewhere in (reading(), store.append("order-1", [placed()], expected_version=1)):
        with pytest.raises(WrongEventLoopError):
            await asyncio.to_thread(blocking, elsewhere)
    assert len(await reading()) == 1


def test_a_store_is_refused_in_another_event_loop_of_its_own_thread(dsn: str) -> None:
    """As in a script that calls `asyncio.run` once for opening it and once more for using it."""
    opened = EventStore.open(dsn, app, pool_size=2)
    with asyncio.Runner() as its_own, asyncio.Runner() as another:
        store = its_own.run(opened.__aenter__())
        with pytest.raises(WrongEventLoopError):
            another.run(store.append("order-1", [placed()], expected_version=NO_STREAM))
        its_own.run(opened.__aexit__(None, None, None))


async def test_settings_made_inside_a_transaction_do_not_stay_behind(dsn: str) -> None:
    async with EventStore.open(dsn, app, pool_size=2) as store:
        for _ in range(3):
            async with store.transaction() as tx:
                await tx.connection.execute("SET work_mem = '1234kB'")
        async with store.transaction() as tx:
            assert await tx.connection.fetchval("SHOW work_mem") != "1234kB"


@pytest.mark.parametrize("failure", [None, ZeroDivisionError, asyncio.CancelledError])
async def test_what_a_transaction_did_to_its_session_does_not_stay_behind_however_it_ended(
    dsn: str, connection: asyncpg.Connection, failure: type[BaseException] | None
) -> None:
    async with EventStore.open(dsn, app, pool_size=2) as store:
        with suppress(ZeroDivisionError, asyncio.CancelledError):
            async with store.transaction() as tx:
                pid = tx.connection.get_server_pid()
                await tx.connection.execute("SELECT pg_advisory_lock(42)")
                await tx.connection.execute("COMMIT; SET work_mem = '1234kB'; BEGIN")
                if failure is not None:
                    raise failure

        assert await connection.fetchval("SELECT pg_try_advisory_lock(42)")
        async with store.transaction() as one, store.transaction() as two:
            assert pid in {tx.connection.get_server_pid() for tx in (one, two)}
            assert [await tx.connection.fetchval("SHOW work_mem") for tx in (one, two)] == ["4MB", "4MB"]


# --- the caller's own connection -----------------------------------------------------------------------------------


async def test_appends_on_a_bound_connection_commit_with_its_transaction(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE stock (n int)")
    async with connection.transaction(), store.bind(connection) as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        await tx.connection.execute("INSERT INTO stock VALUES (1)")
        await store.repository(Order).execute("2", lambda order: order.place("tea"), tx=tx)
        assert await versions(store) == []

    assert await versions(store) == [1]
    assert await versions(store, "order-2") == [1]


async def test_they_are_undone_with_it(store: EventStore, connection: asyncpg.Connection) -> None:
    transaction = connection.transaction()
    await transaction.start()
    async with store.bind(connection) as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
    await transaction.rollback()

    assert await versions(store) == []


async def test_a_bound_transaction_refuses_to_be_used_after_its_block(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    async with connection.transaction(), store.bind(connection) as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(ClosedError, match="transaction"):
        await tx.append("order-1", [SHIPPED], expected_version=1)
    assert len(await store.read_stream("order-1").to_list()) == 1


async def test_a_transaction_whose_failed_statement_was_caught_is_not_acknowledged(store: EventStore) -> None:
    """PostgreSQL answers its COMMIT with a rollback, and the driver does not raise."""
    with pytest.raises(TransactionAbortedError, match="savepoint"):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            with suppress(asyncpg.PostgresError):
                await tx.connection.execute("SELECT 1 / 0")
    assert await store.stream_info("order-1") is None


async def test_what_fails_inside_a_savepoint_leaves_the_transaction_whole(store: EventStore) -> None:
    async with store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        with suppress(asyncpg.PostgresError):
            async with tx.connection.transaction():
                await tx.connection.execute("SELECT 1 / 0")

    assert len(await store.read_stream("order-1").to_list()) == 1


async def test_a_connection_outside_a_transaction_is_refused(store: EventStore, connection: asyncpg.Connection) -> None:
    with pytest.raises(InvalidArgumentError, match="not in a transaction"):
        async with store.bind(connection):
            pytest.fail("it was bound")


async def test_a_bound_transaction_that_its_owner_has_ended_takes_no_more_appends(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    transaction = connection.transaction()
    await transaction.start()
    async with store.bind(connection) as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        await transaction.commit()
        with pytest.raises(InvalidArgumentError, match="not in a transaction"):
            await tx.append("order-1", [SHIPPED], expected_version=1)

    assert await versions(store) == [1]


async def test_a_transaction_that_the_callers_sql_has_ended_takes_no_more_appends(store: EventStore) -> None:
    with pytest.raises(InvalidArgumentError, match="not in a transaction"):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            await tx.connection.execute("COMMIT")
            await tx.append("order-1", [SHIPPED], expected_version=1)

    assert await versions(store) == [1]


async def test_sqlalchemys_connection_can_be_bound_after_its_first_statement(dsn: str, store: EventStore) -> None:
    engine = create_async_engine(dsn.replace("postgresql://", "postgresql+asyncpg://"))
    async with engine.connect() as session:
        driver: Any = (await session.get_raw_connection()).driver_connection
        with pytest.raises(InvalidArgumentError, match="SQLAlchemy"):
            async with store.bind(driver):
                pytest.fail("it was bound")

        await session.execute(text("CREATE TABLE stock (n int)"))
        async with store.bind(driver) as tx:
            await tx.append("order-undone", [placed()], expected_version=NO_STREAM)
        await session.rollback()

        await session.execute(text("CREATE TABLE stock (n int)"))
        async with store.bind(driver) as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        await session.commit()
    await engine.dispose()

    assert [info.stream_id async for info in store.list_streams()] == ["order-1"]


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_a_stale_snapshot_of_the_callers_is_a_conflict_that_can_be_run_again(
    dsn: str, store: EventStore, isolation: Any
) -> None:
    """It reads an old version of the stream; the unique index notices."""
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with connected(dsn) as connection:
        transaction = connection.transaction(isolation=isolation)
        await transaction.start()
        await connection.fetchval("SELECT 1")  # its snapshot is taken here
        await store.append("order-1", [placed()], expected_version=1)
        async with store.bind(connection) as tx:
            with pytest.raises(TransactionConflictError) as raised:
                await tx.append("order-1", [SHIPPED], expected_version=1)
        await transaction.rollback()

    assert raised.value.retryable
    assert await versions(store) == [1, 2]


@pytest.mark.parametrize("isolation", ["repeatable_read", "serializable"])
async def test_the_log_is_not_read_in_an_old_snapshot_that_lacks_settled_events(
    store: EventStore, connection: asyncpg.Connection, isolation: Any
) -> None:
    """Else a reader would pass by what had a lower position and committed later, and never come back to it."""
    async with store.transaction() as late:
        await late.append("order-late", [placed()], expected_version=NO_STREAM)
        await store.append("order-early", [placed()], expected_version=NO_STREAM)
        transaction = connection.transaction(isolation=isolation)
        await transaction.start()
        await connection.fetchval("SELECT count(*) FROM eventstore.events")  # its snapshot is taken here
    async with store.bind(connection) as tx:
        with pytest.raises(InvalidArgumentError, match="READ COMMITTED"):
            await tx.read_all().to_list()
        assert [event.stream_version async for event in tx.read_stream("order-early")] == [1]
    await transaction.rollback()


async def test_the_log_is_read_in_a_read_committed_transaction_of_the_callers(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    async with connection.transaction(isolation="read_committed"), store.bind(connection) as tx:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
        assert [event.stream_id async for event in tx.read_all()] == ["order-1"]


# --- defaults of a role or a database ------------------------------------------------------------------------------


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_another_default_isolation_changes_nothing(
    dsn: str, connection: asyncpg.Connection, isolation: str
) -> None:
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = '{isolation}'")
    async with open_store(dsn) as store:
        results = await asyncio.gather(*(append_any(store) for _ in range(30)))
        conflicts = await asyncio.gather(*(append_first(store) for _ in range(10)))

        assert sorted(result.stream_version for result in results) == list(range(1, 31))
        assert conflicts.count("appended") == 1
        assert await versions(store) == list(range(1, 31))


async def append_any(store: EventStore) -> Any:
    return await store.append("order-1", [placed()], expected_version=ANY)


async def append_first(store: EventStore) -> str:
    try:
        await store.append("order-2", [placed()], expected_version=NO_STREAM)
    except WrongExpectedVersionError:
        return "conflict"
    return "appended"
