"""Gaps under a follower of the log: it passes what will never come, and stays behind what still may."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore
from eventstore.subscriptions import Checkpoint, LogFollower
from fixtures.following import drain, streams
from fixtures.gaps import leave_gap, open_append
from fixtures.shop import placed
from fixtures.subscribing import WITHIN, fill


@pytest.mark.origin("Marten")
async def test_gaps_are_passed(any_store: EventStore) -> None:
    await fill(any_store, 2)
    await leave_gap(any_store, 5)
    await fill(any_store, 2)

    batches = await drain(LogFollower(any_store.log, Checkpoint(), batch=2))

    assert streams(*batches) == ["order-1"] * 4


@pytest.mark.origin("Marten")
async def test_a_gap_at_the_end_is_not_passed_for_good(any_store: EventStore) -> None:
    """The checkpoint stays at an event that was read: after a crash those numbers can be handed out again."""
    await fill(any_store, 1)
    follower = LogFollower(any_store.log, Checkpoint())
    (first,) = await drain(follower)
    await leave_gap(any_store)

    assert await follower.next_now() is None
    await fill(any_store, 1)
    (second,) = await drain(follower)
    assert (first.checkpoint.position, len(second.events)) == (first.events[0].position, 1)


@pytest.mark.origin("Marten")
async def test_a_late_commit_is_seen(any_store: EventStore) -> None:
    follower = LogFollower(any_store.log, Checkpoint())
    async with open_append(any_store, 1, "order-slow"):
        await any_store.append("order-fast", [placed()], expected_version=NO_STREAM)
        assert await follower.next_now() is None

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
    await leave_gap(any_postgres, 3)
    assert await follower.next_now() is None
    await own_connection.execute(f"SELECT setval('eventstore.events_global_position_seq', {last})")

    await fill(any_postgres, 1, "order-again")
    async with asyncio.timeout(WITHIN):
        second = await anext(follower)

    assert streams(second) == ["order-again"]
    assert second.checkpoint.position == last + 1
