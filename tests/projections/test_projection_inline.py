"""An inline projection changes in the append's transaction: never behind, and undone with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore, Metadata, NewEvent, ProjectionContext, RecordedEvent, rebuild
from eventstore.db.migrating import migrate
from eventstore.errors import ConfigurationError, ProjectionFailedError, WrongExpectedVersionError
from fixtures.projecting import WITHIN, app_of, clean_fold, fill, rows, sales
from fixtures.shop import NoteTaken, placed
from fixtures.stores import open_store


class BoomError(Exception):
    """What ends a transaction."""


async def fail_on_seven(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == 7:
        raise BoomError


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store with an inline projection."""
    async with open_store(dsn, app_of(sales(inline=True, after=fail_on_seven))) as store:
        yield store


async def test_it_is_never_behind(store: EventStore, connection: asyncpg.Connection) -> None:
    for number in range(1, 4):
        await store.append("order-1", [placed(number), placed(10)], expected_version=ANY)
        assert await rows(connection) == await clean_fold(store)


async def test_appends_at_once_are_all_counted(store: EventStore, connection: asyncpg.Connection) -> None:
    await asyncio.gather(*(fill(store, 5, stream_id=f"order-{number}") for number in range(8)))

    assert await rows(connection) == await clean_fold(store)


async def test_a_handler_that_fails_refuses_the_append(store: EventStore, connection: asyncpg.Connection) -> None:
    await store.append("order-1", [placed(1)], expected_version=NO_STREAM)

    with pytest.raises(ProjectionFailedError) as failure:
        await store.append("order-1", [placed(2), placed(7)], expected_version=1)

    assert isinstance(failure.value.__cause__, BoomError)
    assert (failure.value.stream_id, failure.value.stream_version) == ("order-1", 3)
    assert await clean_fold(store) == await rows(connection) == {"tea": 1}


async def test_it_rolls_back_with_the_transaction(store: EventStore, connection: asyncpg.Connection) -> None:
    with pytest.raises(BoomError):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed(1)], expected_version=NO_STREAM)
            assert await tx.connection.fetchval("SELECT n FROM sales_v1.sales") == 1
            raise BoomError

    assert await rows(connection) == {}


async def test_a_conflict_leaves_it_alone(store: EventStore, connection: asyncpg.Connection) -> None:
    with pytest.raises(WrongExpectedVersionError):
        await store.append("order-1", [placed(1)], expected_version=5)

    assert await rows(connection) == {}


async def test_an_append_that_is_repeated_is_counted_once(store: EventStore, connection: asyncpg.Connection) -> None:
    first = await store.append("order-1", [placed(3)], expected_version=NO_STREAM)
    (event,) = await store.read_stream("order-1").to_list()

    again = await store.append("order-1", [NewEvent(event.data, event_id=event.event_id)], expected_version=NO_STREAM)

    assert again.repeated
    assert again.stream_version == first.stream_version
    assert await rows(connection) == {"tea": 3}


async def test_the_callers_search_path_is_as_it_was(store: EventStore) -> None:
    async with store.transaction() as tx:
        await tx.connection.execute("CREATE SCHEMA mine; SET LOCAL search_path = mine, public")
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)

        assert await tx.connection.fetchval("SHOW search_path") == "mine, public"


async def test_no_search_path_stays_behind_on_the_pools_connections(store: EventStore) -> None:
    async with store.transaction() as tx:
        path = await tx.connection.fetchval("SHOW search_path")
    await fill(store, 3)
    for _ in range(3):
        async with store.transaction() as tx:
            assert await tx.connection.fetchval("SHOW search_path") == path


async def test_what_a_handler_appends_is_caused_by_its_event(dsn: str) -> None:
    async def follow(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        async with opened.bind(ctx.connection) as tx:
            await tx.append("note-1", [NoteTaken(text="x")], expected_version=ANY)

    async with open_store(dsn, app_of(sales(inline=True, after=follow))) as opened:
        await opened.append(
            "order-1", [placed()], expected_version=NO_STREAM, metadata=Metadata(correlation_id="request")
        )
        (cause,) = await opened.read_stream("order-1").to_list()
        (note,) = await opened.read_stream("note-1").to_list()

    assert note.metadata == Metadata(correlation_id="request", causation_id=str(cause.event_id))


async def test_a_rebuild_beside_open_transactions_loses_none_of_their_appends(
    dsn: str, connection: asyncpg.Connection
) -> None:
    """The swap waits for the transaction that has appended; one that comes meanwhile waits for the swap."""
    projection = sales(inline=True)
    async with open_store(dsn, app_of(projection)) as store:
        await fill(store, 10)
        async with asyncio.timeout(WITHIN):
            async with store.transaction() as tx:
                await tx.append("order-open", [placed(5, "a")], expected_version=NO_STREAM)
                rebuilding = asyncio.create_task(rebuild(store, projection))
                await eventually_waiting(connection, "%LOCK TABLE%")
                appending = asyncio.create_task(store.append("order-2", [placed(3, "b")], expected_version=NO_STREAM))
                await eventually_waiting(connection, "%.append_one(%")
            await rebuilding
            await appending

        assert await rows(connection) == await clean_fold(store)


async def eventually_waiting(connection: asyncpg.Connection, statement: str) -> None:
    """Return once a session of this database waits for a lock with a statement like this one.

    It polls: PostgreSQL tells nobody that a session has begun to wait, it only answers when it is asked.
    """
    waiting = (
        "SELECT count(*) FROM pg_stat_activity"
        " WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE $1"
    )
    while not await connection.fetchval(waiting, statement):  # noqa: ASYNC110 - see above
        await asyncio.sleep(0.01)


async def test_a_rebuild_of_tables_of_ones_own_is_refused(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    projection = sales(inline=True, setup=None, tables=["public.sales"])
    async with open_store(dsn, app_of(projection)) as store:
        with pytest.raises(ConfigurationError, match="inline"):
            await rebuild(store, projection)


async def test_stores_in_two_schemas_of_a_database_have_read_models_of_their_own(
    dsn: str, connection: asyncpg.Connection
) -> None:
    app = app_of(sales(inline=True))
    await migrate(dsn, schema="second")
    async with open_store(dsn, app) as first, EventStore.open(dsn, app, schema="second") as second:
        await fill(first, 2)
        await fill(second, 4)
        assert await rows(connection) == await clean_fold(first)
        assert await rows(connection, "second_sales_v1") == await clean_fold(second)

        assert await rebuild(second, sales(inline=True)) == 4
        assert await rows(connection, "second_sales_v1") == await clean_fold(second)
        assert await rows(connection) == await clean_fold(first)


async def test_it_takes_only_streams_of_its_categories(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_store(dsn, app_of(sales(inline=True, categories=["order"]))) as store:
        await store.append("order-1", [placed(1)], expected_version=NO_STREAM)
        await store.append("note-1", [placed(10)], expected_version=NO_STREAM)

    assert await rows(connection) == {"tea": 1}
