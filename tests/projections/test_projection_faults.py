"""Whatever dies in the midst of a batch: after the restart every event has been counted once."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, EventStoreError, ProjectionContext, RecordedEvent, Stop
from eventstore.errors import EndedTransactionError, ProjectionFailedError, UnavailableError
from eventstore.lifecycle import Backoff
from eventstore.projections import ProjectionWorker
from eventstore.projections.read_model import ReadModel
from eventstore.subscriptions import Lease, Leases
from eventstore.subscriptions.leases import new_owner
from fixtures.projecting import (
    WITHIN,
    app_of,
    before_the_first_checkpoint_moves,
    cancelled,
    checkpoint,
    clean_fold,
    fill,
    positions,
    project_all,
    rows,
    sales,
    started,
)
from fixtures.stores import connected, open_store
from fixtures.tcp_proxy import TcpProxy

SEEDS = range(4)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many transactions, so that there are many places to die at."""
    monkeypatch.setattr("eventstore.projections.worker.BATCH", 3)


async def terminate(dsn: str, pid: int) -> None:
    """End a server process and wait until it is gone."""
    async with connected(dsn) as admin:
        assert await admin.fetchval("SELECT pg_terminate_backend($1, 10000)", pid)


@pytest.mark.parametrize("place", ["before", "after"])
async def test_a_connection_that_is_ended_inside_a_handler_is_replaced(
    dsn: str, store: EventStore, connection: asyncpg.Connection, place: str
) -> None:
    """It is no failure of the handler: the same worker goes on by itself."""
    ended: list[int] = []

    async def end_once(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.stream_version == 5 and not ended:
            ended.append(ctx.connection.get_server_pid())
            await terminate(dsn, ended[0])

    await fill(store, 9)
    worker = await project_all(store, sales(before=end_once) if place == "before" else sales(after=end_once))

    assert len(ended) == 1
    assert worker.progress.position == (await positions(store))[-1]
    assert await rows(connection) == await clean_fold(store)


async def test_a_connection_that_is_ended_while_it_is_idle_is_replaced(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    pids: list[int] = []

    async def note(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        pids.append(ctx.connection.get_server_pid())

    worker = ProjectionWorker(store, sales(before=note))
    async with started(worker):
        await fill(store, 1)
        await worker.progress.caught_up(store.log)
        await terminate(dsn, pids[-1])
        await fill(store, 1)
        await worker.progress.caught_up(store.log)

    assert len(set(pids)) == 2
    assert await rows(connection) == await clean_fold(store)


async def test_a_deadlock_with_somebody_else_is_tried_again(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    """The server chooses the worker, whose patience it is told to be the shorter."""
    attempts = []

    async with connected(dsn) as other:

        async def embrace(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
            attempts.append(event.stream_version)
            if len(attempts) > 1:
                return
            await ctx.connection.execute("SET LOCAL deadlock_timeout = '10ms'")
            await ctx.connection.execute("SELECT pg_advisory_xact_lock(1)")
            waiting = asyncio.create_task(other.execute("SELECT pg_advisory_xact_lock(1)"))
            waits = "SELECT true FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND pid = $1"
            while not await connection.fetchval(waits, other.get_server_pid()):
                pass
            try:
                await ctx.connection.execute("SELECT pg_advisory_xact_lock(2)")
            finally:
                others.append(waiting)

        others: list[asyncio.Task[str]] = []
        transaction = other.transaction()
        await transaction.start()
        await other.execute("SET LOCAL deadlock_timeout = '60s'")
        await other.execute("SELECT pg_advisory_xact_lock(2)")
        await fill(store, 2)
        await project_all(store, sales(before=embrace))
        await asyncio.gather(*others)
        await transaction.rollback()

    assert len(attempts) == 3
    assert await rows(connection) == await clean_fold(store)


@pytest.mark.parametrize("seed", SEEDS)
async def test_server_processes_ended_at_random_lead_to_no_double_counting(
    dsn: str, store: EventStore, connection: asyncpg.Connection, seed: int
) -> None:
    """From outside, wherever the worker happens to be: between its statements, inside one, at the commit."""
    chance = random.Random(seed)
    pids: list[int] = []

    async def note(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if ctx.connection.get_server_pid() not in pids:
            pids.append(ctx.connection.get_server_pid())

    await fill(store, 60)
    async with connected(dsn) as admin:
        worker = ProjectionWorker(store, sales(before=note))
        async with started(worker):
            for times in range(3):
                await worker.progress.until(lambda times=times: len(pids) > times)  # type: ignore[misc]
                for _ in range(chance.randrange(60)):
                    await asyncio.sleep(0)
                await admin.execute("SELECT pg_terminate_backend($1, 10000)", pids[-1])  # until it is gone
                await fill(store, 6)
            await worker.progress.caught_up(store.log)

    assert len(pids) == 4
    assert await rows(connection) == await clean_fold(store)
    assert (await checkpoint(store)).position == (await positions(store))[-1]


@pytest.mark.parametrize("seed", SEEDS)
async def test_workers_cancelled_at_random_lead_to_no_double_counting(
    store: EventStore, connection: asyncpg.Connection, seed: int
) -> None:
    chance = random.Random(seed)
    await fill(store, 40)
    for _ in range(8):
        worker = ProjectionWorker(store, sales())
        async with started(worker):
            await worker.progress.until(lambda worker=worker: worker.progress.state == "working")  # type: ignore[misc]
            for _ in range(chance.randrange(80)):
                await asyncio.sleep(0)
        await fill(store, 2)
    await project_all(store, sales())

    assert await rows(connection) == await clean_fold(store)


async def test_a_worker_waits_for_a_database_that_is_away(
    dsn: str, proxy: TcpProxy, connection: asyncpg.Connection
) -> None:
    async with open_store(dsn) as writing, open_store(proxy.dsn) as store:
        worker = ProjectionWorker(store, sales())
        await fill(writing, 5)
        async with started(worker):
            await worker.progress.caught_up(writing.log)
            proxy.refuse()
            await fill(writing, 5)
            await worker.progress.until(lambda: worker.progress.state == "waiting")
            proxy.accept()
            await worker.progress.caught_up(writing.log, within=5.0)

        assert await rows(connection) == await clean_fold(writing)


# --- alone by lease ------------------------------------------------------------------------------------------------


async def test_of_two_workers_one_works_and_the_other_takes_over(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    async with open_store(dsn) as other:
        first, second = ProjectionWorker(store, sales()), ProjectionWorker(other, sales())
        async with started(first) as task:
            await first.progress.until(lambda: first.progress.state == "working")
            async with started(second):
                await fill(store, 4)
                await first.progress.caught_up(store.log)
                assert (second.progress.state, second.progress.position) == ("waiting", 0)

                task.cancel()
                await fill(store, 4)
                await second.progress.caught_up(store.log)

        assert (first.progress.events, second.progress.events) == (4, 4)
        assert await rows(connection) == await clean_fold(store)


async def test_each_owner_writes_its_epoch_beside_the_checkpoint(store: EventStore) -> None:
    await fill(store, 1)
    await project_all(store, sales())
    first = await checkpoint(store)
    await fill(store, 1)
    await project_all(store, sales())

    assert (await checkpoint(store)).epoch > first.epoch > 0


async def test_a_worker_that_lost_its_lease_in_a_batch_waits_its_turn(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has taken it, and has written under a later epoch: what the old owner did is rolled back."""
    stolen: list[Lease] = []

    async def steal() -> None:
        await connection.execute("UPDATE eventstore.leases SET expires_at = '-infinity'")
        lease = await Leases(store.database).try_acquire("projection:sales@1", new_owner())
        assert lease is not None
        stolen.append(lease)
        await connection.execute(
            "INSERT INTO eventstore.checkpoints (name, global_position, epoch) VALUES ('sales@1', 0, $1)",
            lease.epoch,
        )
        await Leases(store.database).release(lease)

    await fill(store, 5)
    before_the_first_checkpoint_moves(monkeypatch, steal)
    await project_all(store, sales())

    assert (await checkpoint(store)).epoch > stolen[0].epoch
    assert await rows(connection) == await clean_fold(store)


# --- setting up ----------------------------------------------------------------------------------------------------


async def test_tables_are_made_once_by_however_many_workers(dsn: str, connection: asyncpg.Connection) -> None:
    projection = sales(setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint); INSERT INTO sales VALUES ('set', 1)")
    async with open_store(dsn) as one, open_store(dsn) as two:
        async with asyncio.timeout(WITHIN):
            made = await asyncio.gather(
                *(ReadModel(projection).ensure(store.database) for store in (one, two) for _ in range(6))
            )

    assert set(made) == {1}
    assert await rows(connection) == {"set": 1}


async def test_a_setup_that_fails_leaves_nothing(dsn: str, connection: asyncpg.Connection) -> None:
    wrong = sales(setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL); SELECT 1/0")
    async with open_store(dsn, app_of(wrong)) as store:
        await fill(store, 1)
        with pytest.raises(EventStoreError, match="PostgreSQL"):
            await project_all(store, wrong)
        assert await connection.fetchval("SELECT to_regnamespace('sales_v1')") is None

        await fill(store, 2)
        await project_all(store, sales())
        assert await rows(connection) == await clean_fold(store)


async def test_what_fails_each_time_it_is_applied_is_tried_more_and_more_slowly(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Getting the lease is no success yet: else a worker would hammer a database that refuses its work."""
    delays: list[float] = []

    async def note_delay(backoff: Backoff) -> None:
        delays.append(backoff._next)
        await wait(backoff)

    async def refuse(_event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
        if len(delays) < 3:
            raise UnavailableError("not now")

    wait = Backoff.wait
    monkeypatch.setattr(Backoff, "wait", note_delay)
    await fill(store, 1)
    worker = ProjectionWorker(store, sales(before=refuse))
    async with started(worker):
        await worker.progress.caught_up(store.log)

    assert delays == [0.1, 0.2, 0.4]
    assert worker._backoff._next == 0.1


async def test_a_handler_that_waits_for_what_was_cancelled_has_failed(store: EventStore) -> None:
    """Nobody has cancelled the worker: ended by it, it would be gone without a word."""

    async def wait_in_vain(_event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
        await cancelled()

    await fill(store, 1)
    worker = ProjectionWorker(store, sales(before=wait_in_vain, on_failure=Stop(attempts=2, first=0.001)))
    with pytest.raises(ProjectionFailedError, match="CancelledError"):
        async with asyncio.timeout(WITHIN):
            await worker.run()
    assert worker.progress.state == "failed"


@pytest.mark.parametrize("then", ["it goes on", "it fails"])
async def test_a_handler_that_ends_its_transaction_stops_the_worker_and_says_to_rebuild(
    store: EventStore, then: str
) -> None:
    """The checkpoint is behind the whole batch then, and its rest in no read model."""

    async def commit(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.stream_version == 2:
            await ctx.connection.execute("COMMIT")
            if then == "it fails":
                raise ZeroDivisionError

    await fill(store, 3)
    with pytest.raises(EndedTransactionError, match="eventstore rebuild sales"):
        await project_all(store, sales(before=commit))


async def test_a_server_without_room_is_not_the_events_fault(store: EventStore, connection: asyncpg.Connection) -> None:
    full = ["53100", "53200"]  # the disk, the memory

    async def write(_: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if full:
            code = full.pop()
            await ctx.connection.execute(f"DO $$ BEGIN RAISE 'no room' USING ERRCODE = '{code}'; END $$")

    await fill(store, 3)
    await project_all(store, sales(before=write, on_failure=Stop(attempts=1)))

    assert await rows(connection) == await clean_fold(store)
