"""One worker at a time holds a lease; the server's clock says how long, and each new owner has a higher epoch."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventstore import EventStore
from eventstore.errors import LeaseLostError
from eventstore.subscriptions import Leases
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy

WITHIN = 30
QUICK = 0.3
"""Seconds of a lease in tests that must wait for a renewal."""


@pytest.fixture
def leases(store: EventStore) -> Leases:
    """The leases of an empty store."""
    return Leases(store.database)


async def run_out(connection: asyncpg.Connection) -> None:
    """Let time pass for the server."""
    await connection.execute("UPDATE eventstore.leases SET expires_at = clock_timestamp() - interval '1 ms'")


async def test_a_free_lease_is_taken_by_one(leases: Leases) -> None:
    taken = await asyncio.gather(*(leases.try_acquire("work", f"w{number}") for number in range(8)))

    (lease,) = [lease for lease in taken if lease is not None]
    assert (lease.name, lease.epoch) == ("work", 1)
    assert await leases.try_acquire("other work", "w") is not None


async def test_its_owner_takes_it_again_under_the_same_epoch(leases: Leases) -> None:
    first = await leases.try_acquire("work", "a")

    assert await leases.try_acquire("work", "a") == first
    assert await leases.try_acquire("work", "b") is None


async def test_one_that_has_run_out_on_the_server_goes_to_the_next_with_a_higher_epoch(
    leases: Leases, connection: asyncpg.Connection
) -> None:
    first = await leases.try_acquire("work", "a")
    await run_out(connection)
    second = await leases.try_acquire("work", "b")

    assert first is not None
    assert second is not None
    assert second.epoch == first.epoch + 1
    with pytest.raises(LeaseLostError, match="work"):
        await leases.renew(first)


async def test_the_servers_clock_says_when_it_runs_out(connection: asyncpg.Connection, store: EventStore) -> None:
    await Leases(store.database, seconds=100).try_acquire("work", "a")

    left = await connection.fetchval("SELECT extract(epoch FROM expires_at - clock_timestamp()) FROM eventstore.leases")

    assert 90 < left <= 100


async def test_a_renewed_one_is_kept_even_when_it_had_run_out(leases: Leases, connection: asyncpg.Connection) -> None:
    lease = await leases.try_acquire("work", "a")
    assert lease is not None
    await run_out(connection)
    await leases.renew(lease)

    assert await leases.try_acquire("work", "b") is None


async def test_a_released_one_is_free_at_once_and_its_epoch_is_remembered(leases: Leases) -> None:
    first = await leases.try_acquire("work", "a")
    assert first is not None
    await leases.release(first)
    second = await leases.try_acquire("work", "b")

    assert second is not None
    assert second.epoch == 2


async def test_an_old_owner_releases_nothing(leases: Leases, connection: asyncpg.Connection) -> None:
    first = await leases.try_acquire("work", "a")
    assert first is not None
    await run_out(connection)
    second = await leases.try_acquire("work", "b")
    assert second is not None

    await leases.release(first)

    await leases.renew(second)
    assert await leases.try_acquire("work", "a") is None


async def test_a_required_lease_does_not_change_hands_before_the_commit(
    store: EventStore, leases: Leases, connection: asyncpg.Connection
) -> None:
    lease = await leases.try_acquire("work", "a")
    assert lease is not None
    await run_out(connection)
    async with store.database.transaction() as session:
        await Leases(session).require(lease)
        next_one = asyncio.create_task(leases.try_acquire("work", "b"))
        waits = "SELECT true FROM pg_locks WHERE NOT granted"
        async with asyncio.timeout(WITHIN):
            while not await connection.fetchval(waits):
                assert not next_one.done()
    taken = await next_one

    assert taken is not None
    with pytest.raises(LeaseLostError):
        await leases.require(lease)


async def test_a_block_that_holds_one_gives_it_back(leases: Leases) -> None:
    async with leases.holding("work") as lease:
        assert await leases.try_acquire("work", "b") is None
        await leases.renew(lease)

    assert await leases.try_acquire("work", "b") is not None


async def test_a_block_that_fails_gives_it_back_and_raises_its_own_error(leases: Leases) -> None:
    with pytest.raises(ZeroDivisionError):
        async with leases.holding("work"):
            raise ZeroDivisionError

    assert await leases.try_acquire("work", "b") is not None


async def test_a_block_that_is_cancelled_gives_it_back(leases: Leases) -> None:
    inside = asyncio.Event()

    async def work() -> None:
        async with leases.holding("work"):
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await inside.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await leases.try_acquire("work", "b") is not None


async def test_blocks_wait_for_each_other(store: EventStore) -> None:
    leases = Leases(store.database, seconds=QUICK)
    inside, epochs = 0, list[int]()

    async def work() -> None:
        nonlocal inside
        async with leases.holding("work") as lease:
            inside += 1
            assert inside == 1
            epochs.append(lease.epoch)
            await leases.renew(lease)
            inside -= 1

    async with asyncio.timeout(WITHIN):
        await asyncio.gather(*(work() for _ in range(4)))

    assert epochs == [1, 2, 3, 4]


async def test_a_block_keeps_it_for_longer_than_one_term(store: EventStore, connection: asyncpg.Connection) -> None:
    leases = Leases(store.database, seconds=QUICK)
    term = "SELECT expires_at FROM eventstore.leases"
    async with leases.holding("work"), asyncio.timeout(WITHIN):
        first = await connection.fetchval(term)
        while await connection.fetchval("SELECT clock_timestamp() < $1", first):
            pass
        assert await leases.try_acquire("work", "b") is None
        assert await connection.fetchval(term) > first


async def test_a_block_whose_lease_was_taken_is_cancelled(store: EventStore, connection: asyncpg.Connection) -> None:
    leases, cancelled = Leases(store.database, seconds=QUICK), False
    with pytest.raises(LeaseLostError, match="work"):
        async with asyncio.timeout(WITHIN), leases.holding("work"):
            await run_out(connection)
            assert await leases.try_acquire("work", "thief") is not None
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled = True
                raise

    assert cancelled
    assert await connection.fetchval("SELECT owner FROM eventstore.leases") == "thief"


async def test_a_block_that_cannot_reach_the_server_for_a_term_is_cancelled(dsn: str, proxy: TcpProxy) -> None:
    async with open_store(proxy.dsn) as store, open_store(dsn) as other:
        leases = Leases(store.database, seconds=QUICK)
        with pytest.raises(LeaseLostError):
            async with asyncio.timeout(WITHIN), leases.holding("work"):
                proxy.refuse()
                await asyncio.Event().wait()

        async with asyncio.timeout(WITHIN), Leases(other.database, seconds=QUICK).holding("work") as lease:
            assert lease.epoch == 2


async def test_a_short_outage_costs_no_lease(proxy: TcpProxy, connection: asyncpg.Connection) -> None:
    async with open_store(proxy.dsn) as store:
        leases = Leases(store.database, seconds=3.0)
        async with leases.holding("work") as lease:
            proxy.cut_all()
            first = await connection.fetchval("SELECT expires_at FROM eventstore.leases")
            async with asyncio.timeout(WITHIN):
                while await connection.fetchval("SELECT expires_at FROM eventstore.leases") == first:
                    pass
            await leases.renew(lease)
