"""A rebuild: built beside the read model in use, swapped in one transaction, equal to a clean fold of the log."""

from __future__ import annotations

import asyncio
import contextvars
from typing import Any

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore, Projection, ProjectionContext, RecordedEvent, rebuild
from eventstore.db import Database
from eventstore.errors import ConfigurationError, ProjectionFailedError
from eventstore.projections import ProjectionWorker
from eventstore.store.log import LogPage, NotOnLogError
from eventstore.store.postgres import PostgresLog
from eventstore.subscriptions import Checkpoints
from fixtures.projecting import (
    WITHIN,
    app_of,
    checkpoint,
    clean_fold,
    fill,
    positions,
    project_all,
    rows,
    sales,
    started,
)
from fixtures.shop import placed
from fixtures.stores import open_store


class BoomError(Exception):
    """What a handler fails with."""


class Gate:
    """Holds the first event of a rebuild until it is opened."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def __call__(self, _event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if ctx.rebuilding:
            self.reached.set()
            await self.open.wait()


async def spoil(connection: asyncpg.Connection) -> dict[str, int]:
    """Let the read model say something that the log does not."""
    await connection.execute("UPDATE sales_v1.sales SET n = n + 1000")
    return await rows(connection)


async def left_overs(connection: asyncpg.Connection) -> list[str]:
    """Return the schemas of rebuilds and of replaced tables."""
    found: list[str] = await connection.fetchval(
        "SELECT coalesce(array_agg(nspname::text), '{}') FROM pg_namespace WHERE nspname ~ '_(rebuild|old)$'"
    )
    return found


async def test_it_says_again_what_the_log_says(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 10)
    await project_all(store, sales())
    await spoil(connection)

    count = await rebuild(store, sales())

    assert count == 10
    assert await rows(connection) == await clean_fold(store)
    assert await left_overs(connection) == []
    assert (await checkpoint(store)).position == (await positions(store))[-1]
    assert [name for name, *_ in await Checkpoints(store.database).list()] == ["sales@1"]


async def test_the_worker_goes_on_after_it_where_the_rebuild_ended(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 5)
    await rebuild(store, sales())
    await fill(store, 5)
    worker = await project_all(store, sales())

    assert worker.progress.events == 5
    assert await rows(connection) == await clean_fold(store)


async def test_a_read_model_that_was_never_built_can_be_rebuilt(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    assert await rebuild(store, sales()) == 0
    await fill(store, 3)
    assert await rebuild(store, sales()) == 3

    assert await rows(connection) == await clean_fold(store)


async def test_readers_see_the_old_tables_until_the_swap(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 3)
    await project_all(store, sales())
    old = await spoil(connection)
    gate = Gate()

    rebuilding = asyncio.create_task(rebuild(store, sales(before=gate)))
    async with asyncio.timeout(WITHIN):
        await gate.reached.wait()
        assert await rows(connection) == old
        gate.open.set()
        await rebuilding

    assert await rows(connection) == await clean_fold(store)


async def test_appends_and_a_worker_go_on_meanwhile(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 20)
    gate = Gate()

    async def write(number: int) -> None:
        await fill(store, 30, stream_id=f"order-{number}")

    async with open_store(dsn) as other:
        worker = ProjectionWorker(other, sales())
        async with started(worker), asyncio.TaskGroup() as group:
            await worker.progress.caught_up(store.log)
            for number in range(3):
                group.create_task(write(number))
            rebuilding = group.create_task(rebuild(store, sales(before=gate)))
            await gate.reached.wait()
            beside = await store.append("order-beside", [placed(5)], expected_version=NO_STREAM)
            await worker.progress.wait_for(beside.position)
            gate.open.set()
            await rebuilding
            for _ in range(2):
                await rebuild(store, sales())
        async with started(worker):
            await worker.progress.caught_up(store.log)

    assert await rows(connection) == await clean_fold(store)
    assert await left_overs(connection) == []


async def test_a_worker_notices_that_its_tables_were_replaced(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    worker = ProjectionWorker(store, sales())
    async with started(worker):
        await fill(store, 4)
        await worker.progress.caught_up(store.log)
        await rebuild(store, sales())
        await fill(store, 4)
        await worker.progress.caught_up(store.log)

    assert await rows(connection) == await clean_fold(store)


async def test_two_rebuilds_at_once_come_one_after_the_other(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 12)

    async with asyncio.timeout(WITHIN):
        first, second = await asyncio.gather(rebuild(store, sales()), rebuild(store, sales()))

    assert (first, second) == (12, 12)
    assert await rows(connection) == await clean_fold(store)


async def test_a_rebuild_that_fails_leaves_the_one_in_use_and_can_be_repeated(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    async def fail_late(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if ctx.rebuilding and event.stream_version == 6:
            raise BoomError

    await fill(store, 6)
    await project_all(store, sales())
    old, before = await spoil(connection), await checkpoint(store)

    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match="version 6 of 'order-1'"):
            await rebuild(store, sales(before=fail_late))
    assert await rows(connection) == old
    assert await checkpoint(store) == before

    await fill(store, 1)
    await project_all(store, sales())  # the worker is not bothered
    assert sum((await rows(connection)).values()) == 3000 + sum((await clean_fold(store)).values())

    await rebuild(store, sales())
    assert await rows(connection) == await clean_fold(store)
    assert await left_overs(connection) == []


async def test_a_rebuild_that_was_cancelled_can_be_repeated(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 3)
    await project_all(store, sales())
    old, gate = await spoil(connection), Gate()

    rebuilding = asyncio.create_task(rebuild(store, sales(before=gate)))
    async with asyncio.timeout(WITHIN):
        await gate.reached.wait()
        rebuilding.cancel()
        await asyncio.gather(rebuilding, return_exceptions=True)
        assert await rows(connection) == old
        await rebuild(store, sales())

    assert rebuilding.cancelled()
    assert await rows(connection) == await clean_fold(store)


async def test_a_rebuild_tells_how_far_it_has_come(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.projections.rebuilding._BATCH", 4)
    await fill(store, 10)
    told: list[tuple[int, int]] = []

    await rebuild(store, sales(), report=lambda done, left: told.append((done, left)))

    assert [done for done, _ in told] == [4, 8, 10]
    assert [left for _, left in told] == [6, 2, 0]


async def test_a_mark_of_another_server_skips_nothing(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old primary said that all was settled; on the new one somebody has drawn a place below and not committed."""
    await fill(store, 2)
    async with store.transaction() as tx:
        await tx.append("order-slow", [placed(100, "c")], expected_version=NO_STREAM)
        await asyncio.create_task(fill(store, 3, stream_id="order-2"), context=contextvars.Context())
        drawn = await store.log.last_drawn()

        async def of_the_old_one(_: PostgresLog) -> int:
            return drawn

        with monkeypatch.context() as patched:
            patched.setattr(PostgresLog, "high_water", of_the_old_one)
            await rebuild(store, sales())
    await project_all(store, sales())

    assert await rows(connection) == await clean_fold(store)


async def test_an_inline_one_is_rebuilt_although_its_server_notes_a_checkpoint_meanwhile(
    dsn: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks as another run of the server would; only that nobody else can answer while the appenders are held."""
    read_on, refused = PostgresLog.read_on, list[NotOnLogError]()

    async def after_a_checkpoint(log: PostgresLog, *args: Any) -> LogPage:
        if not isinstance(log.session, Database) and not refused:
            await connection.execute("CHECKPOINT")
        try:
            return await read_on(log, *args)
        except NotOnLogError as error:
            refused.append(error)
            raise

    monkeypatch.setattr(PostgresLog, "read_on", after_a_checkpoint)
    async with open_store(dsn, app_of(sales(inline=True))) as store:
        await fill(store, 3)
        await spoil(connection)
        await rebuild(store, sales(inline=True))
        assert refused
        assert await rows(connection) == await clean_fold(store)


async def test_a_raised_version_builds_beside(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 5)
    await project_all(store, sales())
    old = await spoil(connection)

    await project_all(store, sales(version=2))

    assert await rows(connection) == old
    assert await rows(connection, "sales_v2") == await clean_fold(store)
    assert (await checkpoint(store, "sales@2")).position == (await checkpoint(store)).position


async def test_a_setup_that_has_changed_is_used_by_the_rebuild(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    await project_all(store, sales())

    await rebuild(store, sales(setup="CREATE TABLE sales (sku text PRIMARY KEY, n numeric, note text DEFAULT 'new')"))
    assert await connection.fetchval("SELECT DISTINCT note FROM sales_v1.sales") == "new"

    await fill(store, 3)
    await project_all(store, sales())
    assert await rows(connection) == await clean_fold(store)


# --- tables that the user's own migrations make ----------------------------------------------------------------------


def own(table: str = "public.sales", **changes: Any) -> Projection:
    return sales(setup=None, tables=[table], **changes)


async def test_the_users_own_tables_are_filled_in_place(store: EventStore, connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    await fill(store, 6)

    await project_all(store, own())

    assert await rows(connection, "public") == await clean_fold(store)


async def test_the_users_own_tables_are_emptied_and_filled_again(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    await fill(store, 6)
    await project_all(store, own())
    await connection.execute("UPDATE public.sales SET n = n + 1000; INSERT INTO public.sales VALUES ('stray', 1)")
    told = []

    async def note(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        told.append(ctx.rebuilding)

    async with asyncio.timeout(WITHIN):
        count = await rebuild(store, own(before=note))

    assert (count, told) == (6, [True] * 6)
    assert await rows(connection, "public") == await clean_fold(store)
    assert (await checkpoint(store)).position == (await positions(store))[-1]


async def test_a_rebuild_of_the_users_own_tables_does_not_wait_for_an_idle_worker_that_follows_the_log(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    """The worker stands by until the tables are full again, and then goes on; it applies none of the old events."""
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    await fill(store, 6)
    async with open_store(dsn) as other:
        worker = ProjectionWorker(other, own())
        async with started(worker):
            await worker.progress.caught_up(store.log)
            assert await rebuild(store, own()) == 6
            await fill(store, 3)
            await worker.progress.caught_up(store.log)

    assert worker.progress.events == 9
    assert await rows(connection, "public") == await clean_fold(store)


async def test_own_tables_that_are_missing_fail_the_rebuild_before_anything_is_forgotten(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    await fill(store, 3)
    await project_all(store, own())
    before = await checkpoint(store)

    with pytest.raises(ConfigurationError, match="elsewhere"):
        await rebuild(store, own("public.elsewhere"))

    assert await checkpoint(store) == before
    assert await rows(connection, "public") == await clean_fold(store)
