"""PgBouncer in transaction mode is one setting: no session state, no session locks, no cached statements."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.errors import WrongExpectedVersionError
from eventstore.subscriptions import Checkpoint, Leases, LogFollower
from fixtures.shop import Order, app, placed


@pytest.fixture
async def pooled(pgbouncer_dsn: str) -> AsyncIterator[EventStore]:
    """A store behind PgBouncer, with more connections than PgBouncer has."""
    async with EventStore.open(pgbouncer_dsn, app, pgbouncer=True, pool_size=8) as store:
        yield store


async def test_many_writers_behind_pgbouncer_lose_nothing(pooled: EventStore) -> None:
    results = await asyncio.gather(*(pooled.append("order-1", [placed()], expected_version=ANY) for _ in range(60)))

    assert sorted(result.stream_version for result in results) == list(range(1, 61))
    with pytest.raises(WrongExpectedVersionError):
        await pooled.append("order-1", [placed()], expected_version=NO_STREAM)


async def test_transactions_hold_readers_back_behind_pgbouncer_too(pooled: EventStore) -> None:
    async with pooled.transaction() as tx:
        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await pooled.append("order-1", [placed()], expected_version=NO_STREAM)
        assert await pooled.read_all().to_list() == []

    assert len(await pooled.read_all().to_list()) == 2


async def test_aggregates_leases_and_followers_work_behind_pgbouncer(pooled: EventStore) -> None:
    await asyncio.gather(
        *(pooled.repository(Order).execute(f"{number}", lambda order: order.place("tea")) for number in range(20))
    )
    async with Leases(pooled.database).holding("work") as lease:
        assert lease.epoch == 1
        assert await Leases(pooled.database).try_acquire("work", "another") is None
    follower, read = LogFollower(pooled.log, Checkpoint()), 0
    while batch := await follower.next_now():
        read += len(batch.events)

    assert read == 20


async def test_another_default_isolation_changes_nothing_behind_pgbouncer_either(
    pgbouncer_dsn: str, connection: asyncpg.Connection
) -> None:
    """There a session setting would be everybody's, so each call says what it needs."""
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET default_transaction_isolation = 'serializable'")
    async with EventStore.open(pgbouncer_dsn, app, pgbouncer=True) as store:
        results = await asyncio.gather(*(store.append("order-1", [placed()], expected_version=ANY) for _ in range(30)))

    assert sorted(result.stream_version for result in results) == list(range(1, 31))
