"""Gaps under a follower of the log: it passes what will never come, and stays behind what still may."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.subscriptions import Batch, Checkpoint, LogFollower
from fixtures.shop import placed

WITHIN = 30


async def fill(store: EventStore, count: int, stream_id: str = "order-1") -> None:
    for number in range(count):
        await store.append(stream_id, [placed(number)], expected_version=ANY)


async def drain(follower: LogFollower) -> list[Batch]:
    batches = []
    while (batch := await follower.next_now()) is not None:
        batches.append(batch)
    return batches


def streams(*batches: Batch) -> list[str]:
    return [event.stream_id for batch in batches for event in batch.events]


async def leave_a_gap(store: EventStore, count: int = 1) -> None:
    """Draw positions that are never committed."""
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as tx:
            await tx.append("order-gone", [placed()] * count, expected_version=ANY)
            raise ZeroDivisionError


@pytest.mark.origin("Marten")
async def test_gaps_are_passed(any_store: EventStore) -> None:
    await fill(any_store, 2)
    await leave_a_gap(any_store, 5)
    await fill(any_store, 2)

    batches = await drain(LogFollower(any_store.log, Checkpoint(), batch=2))

    assert streams(*batches) == ["order-1"] * 4


@pytest.mark.origin("Marten")
async def test_a_gap_at_the_end_is_not_passed_for_good(any_store: EventStore) -> None:
    """The checkpoint stays at an event that was read: after a crash those numbers can be handed out again."""
    await fill(any_store, 1)
    follower = LogFollower(any_store.log, Checkpoint())
    (first,) = await drain(follower)
    await leave_a_gap(any_store)

    assert await follower.next_now() is None
    await fill(any_store, 1)
    (second,) = await drain(follower)
    assert (first.checkpoint.position, len(second.events)) == (first.events[0].position, 1)


@pytest.mark.origin("Marten")
async def test_a_late_commit_is_seen(any_store: EventStore) -> None:
    drawn, may_commit = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with any_store.transaction() as tx:
            await tx.append("order-slow", [placed()], expected_version=NO_STREAM)
            drawn.set()
            await may_commit.wait()

    follower = LogFollower(any_store.log, Checkpoint())
    writer = asyncio.create_task(slow())
    await drawn.wait()
    await any_store.append("order-fast", [placed()], expected_version=NO_STREAM)
    assert await follower.next_now() is None
    may_commit.set()
    await writer

    async with asyncio.timeout(WITHIN):
        batch = await anext(follower)
    assert streams(batch) == ["order-slow", "order-fast"]


@pytest.mark.origin("Marten")
async def test_the_last_events_are_seen_when_the_log_goes_quiet(any_store: EventStore) -> None:
    """The mark was below what was drawn when it was asked: it is asked again although nothing is drawn any more."""
    follower = LogFollower(any_store.log, Checkpoint())
    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        for _ in range(3):
            assert await follower.next_now() is None

    assert streams(*await drain(follower)) == ["order-1"]


# --- PostgreSQL: the caller's own SQL, and its sequence --------------------------------------------------------------


@pytest.mark.origin("Marten")
async def test_the_last_events_of_the_callers_own_transaction_are_seen_when_the_log_goes_quiet(
    any_postgres: EventStore, own_connection: asyncpg.Connection
) -> None:
    """Nothing moves the sequence any more once they have committed."""
    follower = LogFollower(any_postgres.log, Checkpoint())
    async with own_connection.transaction(), any_postgres.bind(own_connection) as tx:
        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await any_postgres.append("order-2", [placed()], expected_version=NO_STREAM)
        assert await follower.next_now() is None
        assert await follower.next_now() is None
    batch = await follower.next_now()

    assert batch is not None
    assert streams(batch) == ["order-late", "order-2"]
    assert await follower.next_now() is None


@pytest.mark.origin("Marten")
async def test_numbers_that_are_handed_out_again_are_read(
    any_postgres: EventStore, own_connection: asyncpg.Connection
) -> None:
    """As a sequence does after a crash of the server."""
    await fill(any_postgres, 1)
    follower = LogFollower(any_postgres.log, Checkpoint())
    (first,) = await drain(follower)
    last = first.checkpoint.position
    await leave_a_gap(any_postgres, 3)
    assert await follower.next_now() is None
    await own_connection.execute(f"SELECT setval('eventstore.events_global_position_seq', {last})")

    await fill(any_postgres, 1, "order-again")
    async with asyncio.timeout(WITHIN):
        second = await anext(follower)

    assert streams(second) == ["order-again"]
    assert second.checkpoint.position == last + 1
