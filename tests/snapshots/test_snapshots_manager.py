"""The snapshot manager: follows the log, one at a time, goes on where it was, and loads profit from what it folds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, SnapshotManager, every, on_event, slower_than
from eventstore.aggregates import load_folded
from eventstore.errors import UnavailableError
from eventstore.snapshots import Policy, take_snapshot
from eventstore.subscriptions import Checkpoints, Leases
from fixtures.shop import SHIPPED, Order, OrderShipped, State, app, placed
from fixtures.stores import open_store

SHAPE = Order.shape
NAME = "snapshots:shop"


def manager(store: EventStore, policy: Policy) -> SnapshotManager:
    return SnapshotManager(store, {SHAPE: policy}, name="shop")


@asynccontextmanager
async def at_work(*managers: SnapshotManager) -> AsyncIterator[None]:
    """Let managers run for the length of the block."""
    tasks = [asyncio.create_task(manager.run()) for manager in managers]
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


async def used_snapshot(store: EventStore, stream_id: str = "order-1") -> int:
    """Return the version of the snapshot that a load starts from."""
    return (await load_folded(store, SHAPE, stream_id)).snapshot_version


async def test_it_folds_what_is_due_and_loads_use_it(store: EventStore) -> None:
    await store.append("order-1", [placed()] * 10, expected_version=0)
    await store.append("order-2", [placed()] * 9, expected_version=0)
    snapshots = manager(store, every(10))

    async with at_work(snapshots):
        await snapshots.progress.caught_up(store.log)
        assert [await used_snapshot(store, stream) for stream in ("order-1", "order-2")] == [10, 0]
        assert snapshots.progress.events == 1

        result = await store.append("order-2", [placed()], expected_version=9)
        await snapshots.progress.wait_for(result.position)
        loaded = await load_folded(store, SHAPE, "order-2")

    assert (loaded.snapshot_version, loaded.replayed) == (10, 0)
    assert loaded.state == State(status="placed", quantity=10)


async def test_it_takes_many_streams_that_are_due_at_once(store: EventStore) -> None:
    streams = [f"order-{number}" for number in range(11)]
    for stream in streams:
        await store.append(stream, [placed()] * 3, expected_version=0)
    snapshots = manager(store, every(3))

    async with at_work(snapshots):
        await snapshots.progress.caught_up(store.log)

    assert [await used_snapshot(store, stream) for stream in streams] == [3] * 11
    assert snapshots.progress.events == 11


async def test_an_event_that_makes_it_due_is_enough(store: EventStore) -> None:
    snapshots = manager(store, on_event(OrderShipped))
    async with at_work(snapshots):
        first = await store.append("order-1", [placed(), placed()], expected_version=0)
        await snapshots.progress.wait_for(first.position)
        assert await used_snapshot(store) == 0
        second = await store.append("order-1", [SHIPPED], expected_version=2)
        await snapshots.progress.wait_for(second.position)
        assert await used_snapshot(store) == 3


async def test_streams_of_other_categories_are_passed_over(store: EventStore) -> None:
    await store.append("basket-1", [placed()] * 5, expected_version=0)
    snapshots = manager(store, every(1))
    async with at_work(snapshots):
        await snapshots.progress.caught_up(store.log)
    assert snapshots.progress.events == 0
    assert await used_snapshot(store, "basket-1") == 0


async def test_it_resumes_from_its_checkpoint(store: EventStore) -> None:
    first, second = manager(store, every(1)), manager(store, every(1))
    result = await store.append("order-1", [placed()], expected_version=0)
    async with at_work(first):
        await first.progress.caught_up(store.log)
    checkpoint = await Checkpoints(store.database).load(NAME)
    assert (checkpoint.event_id,) == result.event_ids
    await store.log.delete_snapshots("order-1")  # one that read the log again would take it again

    await store.append("order-2", [placed()], expected_version=0)
    async with at_work(second):
        await second.progress.caught_up(store.log)

    assert (await used_snapshot(store, "order-1"), await used_snapshot(store, "order-2")) == (0, 1)
    assert second.progress.events == 1


async def test_of_two_managers_one_works_until_it_stops(dsn: str) -> None:
    async with open_store(dsn, app) as store, open_store(dsn, app) as other_store:
        one, other = manager(store, every(1)), manager(other_store, every(1))
        async with AsyncExitStack() as second:
            async with at_work(one):
                await one.progress.until(lambda: one.progress.state == "working")
                await second.enter_async_context(at_work(other))
                for version in range(5):
                    result = await store.append("order-1", [placed()], expected_version=version)
                    await one.progress.wait_for(result.position)
                    assert await used_snapshot(store) == version + 1
                assert await Leases(store.database).try_acquire(NAME, "a third one") is None
                assert (one.progress.events, other.progress.events, other.progress.state) == (5, 0, "waiting")

            result = await store.append("order-1", [placed()], expected_version=5)
            await other.progress.wait_for(result.position)
            assert await used_snapshot(store) == 6


async def test_slow_loads_are_folded_also_without_the_lease(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = asyncio.Event()
    save_snapshot = store.log.save_snapshot

    async def note(*arguments: Any) -> None:
        await save_snapshot(*arguments)
        saved.set()

    monkeypatch.setattr(store.log, "save_snapshot", note)
    await store.append("order-1", [placed()] * 3, expected_version=0)
    snapshots = manager(store, slower_than(0))

    async with Leases(store.database).holding(NAME), at_work(snapshots):
        await snapshots.progress.until(lambda: bool(store.on_load))
        await store.repository(Order).load("1")
        await saved.wait()
        assert snapshots.progress.state == "waiting"

    assert await used_snapshot(store) == 3
    assert store.on_load == []


async def test_a_load_that_replayed_nothing_is_not_folded_again(store: EventStore) -> None:
    await store.append("order-1", [placed()] * 3, expected_version=0)
    snapshots = manager(store, slower_than(0))
    snapshots._notice_load("order-1", 0, 9.0)
    snapshots._notice_load("basket-1", 9, 9.0)
    assert snapshots._costly.empty()


@pytest.mark.parametrize(
    "broken",
    [
        "UPDATE eventstore.snapshots SET state = '{'",
        "UPDATE eventstore.snapshots SET event_id = gen_random_uuid()",
        "UPDATE eventstore.snapshots SET stream_version = 9",
    ],
    ids=["unreadable", "of another event", "of a version that is not there"],
)
async def test_a_snapshot_of_no_use_is_replaced_though_the_stream_stands_still(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    await store.append("order-1", [placed()] * 3, expected_version=0)
    await take_snapshot(store, SHAPE, "order-1")
    await connection.execute(broken)
    saved = asyncio.Event()
    save_snapshot = store.log.save_snapshot

    async def note(*arguments: Any) -> None:
        await save_snapshot(*arguments)
        saved.set()

    monkeypatch.setattr(store.log, "save_snapshot", note)
    snapshots = manager(store, every(100))

    async with at_work(snapshots):
        await snapshots.progress.until(lambda: bool(store.on_load))
        assert (await store.repository(Order).load("1")).state.quantity == 3
        await saved.wait()

    loaded = await load_folded(store, SHAPE, "order-1")
    assert (loaded.snapshot_version, loaded.replayed, loaded.bad_snapshot) == (3, 0, False)


@pytest.mark.parametrize("streams", [1, 3], ids=["one stream", "several streams at once"])
async def test_it_starts_over_when_the_database_was_away(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, streams: int
) -> None:
    names = [f"order-{number}" for number in range(streams)]
    for name in names:
        await store.append(name, [placed()], expected_version=0)
    save_snapshot, all_failing = store.log.save_snapshot, asyncio.Barrier(streams)

    async def fail_together(*_: Any) -> None:
        await all_failing.wait()
        monkeypatch.setattr(store.log, "save_snapshot", save_snapshot)
        raise UnavailableError("the database is away")

    monkeypatch.setattr(store.log, "save_snapshot", fail_together)
    snapshots = manager(store, every(1))

    async with at_work(snapshots):
        await snapshots.progress.caught_up(store.log)

    assert [await used_snapshot(store, name) for name in names] == [1] * streams
