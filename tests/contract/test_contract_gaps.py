"""Gaps between positions: a reader of the log neither waits for what will never come nor passes what still may.

Positions are drawn before the commit, so a rolled back transaction leaves a gap for ever, and an open one leaves one
that may still be filled. A reader that tells them apart by a time-out is wrong now and then; this one never guesses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from eventstore import ANY, BEGINNING, NO_STREAM, EventStore, Transaction
from eventstore.events import position_number
from eventstore.subscriptions import Checkpoint, LogFollower
from fixtures.gaps import RolledBackError, leave_gap, open_append
from fixtures.shop import placed


async def append(store: EventStore, quantity: int) -> int:
    """Append an event that is known again by its quantity, and return its position."""
    return position_number((await store.append("order-1", [placed(quantity)], expected_version=ANY)).position)


async def read(store: EventStore, after: int | None = None) -> list[int]:
    """Return the quantities that a reader of the log sees."""
    events = await store.read_all().to_list()
    return [event.data.quantity for event in events if after is None or position_number(event.position) > after]


@pytest.mark.origin("Marten")
async def test_an_empty_log_is_settled_at_the_beginning(any_store: EventStore) -> None:
    assert await any_store.log.high_water() == 0
    assert await any_store.read_all(after=BEGINNING).to_list() == []


@pytest.mark.origin("Marten")
async def test_a_log_without_gaps_is_settled_at_its_last_event(any_store: EventStore) -> None:
    last = [await append(any_store, number) for number in range(10)][-1]

    assert await any_store.log.high_water() == last
    assert await read(any_store) == list(range(10))


GAPS: dict[str, Sequence[int]] = {
    "one": [0, 0, 1, 0, 0],
    "at the beginning": [2, 0, 0],
    "several": [0, 1, 0, 3, 0, 1, 1, 0],
    "long": [0, 200, 0],
    "everywhere": [1] * 8,
}


@pytest.mark.origin("Marten")
@pytest.mark.parametrize("gaps", GAPS.values(), ids=GAPS)
async def test_what_was_rolled_back_holds_no_reader_and_hides_nothing(
    any_store: EventStore, gaps: Sequence[int]
) -> None:
    positions = []
    for quantity, size in enumerate(gaps):
        if size:
            await leave_gap(any_store, size)
        positions.append(await append(any_store, quantity))
        assert await read(any_store) == list(range(quantity + 1))  # at once, not after some time

    assert positions[-1] == sum(gaps) + len(gaps)
    assert await any_store.log.high_water() == positions[-1]


@pytest.mark.origin("Marten")
async def test_a_reader_that_stands_before_a_gap_or_in_it_goes_on(any_store: EventStore) -> None:
    before = await append(any_store, 1)
    await leave_gap(any_store, 6)
    await append(any_store, 2)

    for standing in range(before, before + 7):
        page = await any_store.read_all(after=type(BEGINNING).parse(str(standing))).to_list()
        assert [event.data.quantity for event in page] == [2]


@pytest.mark.origin("Marten")
async def test_a_gap_at_the_end_keeps_nobody_and_what_comes_behind_it_is_read(any_store: EventStore) -> None:
    await append(any_store, 1)
    await leave_gap(any_store, 40)
    assert await read(any_store) == [1]
    assert await any_store.log.high_water() == 41
    await append(any_store, 2)

    assert await read(any_store) == [1, 2]


@pytest.mark.origin("Marten")
@pytest.mark.parametrize("undone", [False, True], ids=["it commits", "it is undone"])
async def test_a_gap_that_may_still_be_filled_is_never_passed(any_store: EventStore, *, undone: bool) -> None:
    first = await append(any_store, 1)
    async with open_append(any_store, 2, "order-open") as undo:
        await leave_gap(any_store, 3)
        await append(any_store, 3)
        for _ in range(20):  # asking again and again does not make it older
            assert await any_store.log.high_water() == first
            assert await read(any_store) == [1]
        if undone:
            undo.set()

    assert await read(any_store) == ([1, 3] if undone else [1, 2, 3])


@pytest.mark.origin("Marten")
async def test_of_several_open_transactions_the_first_holds_the_reader(any_store: EventStore) -> None:
    await append(any_store, 1)
    async with open_append(any_store, 2, "order-a"):
        async with open_append(any_store, 3, "order-b"):
            await append(any_store, 4)
            assert await read(any_store) == [1]
        assert await read(any_store) == [1]

    assert await read(any_store) == [1, 2, 3, 4]


@pytest.mark.origin("Marten")
async def test_a_reader_of_a_log_that_has_gone_quiet_is_not_stuck(any_store: EventStore) -> None:
    """The sequence does not move again, yet the bound does, when the transaction that held it has ended."""
    follower = LogFollower(any_store.log, Checkpoint())
    async with open_append(any_store, 1, "order-open"):
        await append(any_store, 2)
        assert await follower.next_now() is None

    batch = await follower.next_now()
    assert batch is not None
    assert [event.stream_id for event in batch.events] == ["order-open", "order-1"]
    assert await follower.next_now() is None


@pytest.mark.origin("Marten")
async def test_readers_of_writers_that_come_late_or_never_see_each_event_once(any_store: EventStore) -> None:
    follower = LogFollower(any_store.log, Checkpoint())
    seen: list[UUID] = []

    async def follow() -> None:
        while len(seen) < 30:
            batch = await follower.next_now()
            seen.extend(event.event_id for event in batch.events) if batch else await asyncio.sleep(0)

    async def write(writer: int) -> None:
        for turn in range(5):
            if (writer + turn) % 3 == 0:
                await leave_gap_of(writer)
            async with any_store.transaction() as tx:
                await tx.append(f"order-{writer}", [placed(turn)], expected_version=turn)
                await asyncio.sleep(0)

    async def leave_gap_of(writer: int) -> None:
        with pytest.raises(RolledBackError):
            async with any_store.transaction() as tx:
                await tx.append(f"order-undone-{writer}", [placed()], expected_version=NO_STREAM)
                await asyncio.sleep(0)
                raise RolledBackError

    async with asyncio.timeout(30):
        await asyncio.gather(follow(), *(write(writer) for writer in range(6)))

    assert seen == [event.event_id for event in await any_store.read_all().to_list()]


# --- PostgreSQL: the caller's own SQL, and its sequence --------------------------------------------------------------


@asynccontextmanager
async def undone(store: EventStore, connection: asyncpg.Connection) -> AsyncIterator[Transaction]:
    """Append in a transaction of the caller's own, which is rolled back at the end of the block."""
    transaction = connection.transaction()
    await transaction.start()
    async with store.bind(connection) as tx:
        yield tx
    await transaction.rollback()


@pytest.mark.origin("Marten")
async def test_a_sequence_that_was_never_called_holds_readers_at_the_beginning(
    any_postgres: EventStore, own_connection: asyncpg.Connection
) -> None:
    """It reports 1 as its last value, as it does after the first call."""
    assert await any_postgres.log.high_water() == 0
    assert await any_postgres.log.last_drawn() == 0
    async with undone(any_postgres, own_connection) as tx:
        await tx.append("order-late", [placed()], expected_version=NO_STREAM)
        await append(any_postgres, 2)

        assert await any_postgres.log.high_water() == 0
        assert await read(any_postgres) == []


@pytest.mark.origin("Marten")
async def test_positions_that_were_rolled_back_hold_nobody_back(
    any_postgres: EventStore, own_connection: asyncpg.Connection
) -> None:
    async with undone(any_postgres, own_connection) as tx:
        await tx.append("order-undone", [placed()] * 5, expected_version=NO_STREAM)
    await append(any_postgres, 1)

    assert await read(any_postgres) == [1]
    assert await any_postgres.log.high_water() == 6
