"""A follower of the log reads every event once and in order: in batches, over gaps, and behind late commits."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore
from eventstore.store.log import Log, LogRange, Mark
from eventstore.store.postgres import PostgresLog
from eventstore.store.reading import PAGE, PAGE_BYTES
from eventstore.streams import SLICES
from eventstore.subscriptions import Checkpoint, LogFollower
from eventstore.subscriptions.following import FIRST_BATCH
from fixtures.following import drain, streams
from fixtures.shop import NoteTaken, placed
from fixtures.subscribing import WITHIN, fill


class CountingLog:
    """A log that counts the questions."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self.marks = 0

    def __getattr__(self, name: str) -> object:
        return getattr(self._log, name)

    async def settled(self) -> Mark:
        self.marks += 1
        return await self._log.settled()


class InterruptedLog(CountingLog):
    """A log whose reader is interrupted while it asks for the mark, once."""

    async def settled(self) -> Mark:
        if self.marks == 0:
            self.marks += 1
            raise asyncio.CancelledError
        return await super().settled()


async def test_a_follower_that_was_interrupted_while_asking_asks_again(any_store: EventStore) -> None:
    log = InterruptedLog(any_store.log)
    follower = LogFollower(log, Checkpoint())  # type: ignore[arg-type]
    follower._settled = True  # as after an answer that left nothing open
    await fill(any_store, 1)
    with pytest.raises(asyncio.CancelledError):
        await follower.next_now()

    assert streams(*await drain(follower)) == ["order-1"]


async def test_the_log_comes_in_batches_and_then_ends(any_store: EventStore) -> None:
    await fill(any_store, 7)
    follower = LogFollower(any_store.log, Checkpoint(), batch=3)

    batches = await drain(follower)

    assert [len(batch.events) for batch in batches] == [3, 3, 1]
    assert [batch.behind for batch in batches] == [4, 1, 0]
    assert await follower.next_now() is None
    for batch in batches:
        last = batch.events[-1]
        assert batch.checkpoint == Checkpoint(last.position, last.event_id, 0)


async def test_an_empty_log_has_no_batch(any_store: EventStore) -> None:
    assert await LogFollower(any_store.log, Checkpoint()).next_now() is None


async def test_it_goes_on_after_its_checkpoint_and_keeps_the_epoch(any_store: EventStore) -> None:
    await fill(any_store, 5)
    first, *_ = await drain(LogFollower(any_store.log, Checkpoint(epoch=4), batch=2))

    (rest,) = await drain(LogFollower(any_store.log, first.checkpoint))

    assert [event.stream_version for event in rest.events] == [3, 4, 5]
    assert rest.checkpoint.epoch == first.checkpoint.epoch == 4


async def test_what_is_not_wanted_is_passed_over_and_counted_as_read(any_store: EventStore) -> None:
    await fill(any_store, 2)
    await any_store.append("note-1", [NoteTaken(text="x")] * 4, expected_version=NO_STREAM)
    wanted = LogRange(event_types=["OrderPlaced"])

    batches = await drain(LogFollower(any_store.log, Checkpoint(), wanted=wanted, batch=3))

    assert [len(batch.events) for batch in batches] == [2, 0]
    assert batches[-1].checkpoint.position == await any_store.log.high_water()
    assert batches[-1].checkpoint.event_id is not None


@pytest.mark.parametrize("first", [0, 2])
async def test_a_checkpoint_of_the_server_between_mark_and_page_hides_nothing(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """It looks like another run of the server, on which the mark says nothing; then the mark is asked for again."""
    await fill(store, 5)
    after = (
        Checkpoint() if not first else (await drain(LogFollower(store.log, Checkpoint(), batch=first)))[0].checkpoint
    )
    settled = type(store.log).settled
    marks = 0

    async def then_a_checkpoint(log: PostgresLog) -> Mark:
        nonlocal marks
        marks += 1
        mark = await settled(log)
        if marks == 1:
            await connection.execute("CHECKPOINT")
        return mark

    monkeypatch.setattr(type(store.log), "settled", then_a_checkpoint)

    batch = await LogFollower(store.log, after).next_now()

    assert batch is not None
    assert len(batch.events) == 5 - first
    assert marks > 1


async def test_a_live_follower_waits_for_what_comes(any_store: EventStore) -> None:
    follower = LogFollower(any_store.log, Checkpoint())

    async def read(count: int) -> list[str]:
        found: list[str] = []
        async for batch in follower:
            found += streams(batch)
            if len(found) >= count:
                break
        return found

    async with asyncio.timeout(WITHIN):
        reading = asyncio.create_task(read(3))
        for number in range(3):
            await fill(any_store, 1, f"order-{number}")
        assert await reading == ["order-0", "order-1", "order-2"]


async def test_a_quiet_log_is_not_asked_for_its_mark_again_and_again(any_store: EventStore) -> None:
    await fill(any_store, 1)
    log = CountingLog(any_store.log)
    follower = LogFollower(log, Checkpoint())  # type: ignore[arg-type]
    await drain(follower)
    asked = log.marks

    for _ in range(20):
        assert await follower.next_now() is None

    assert log.marks <= asked + 1


async def test_writers_at_once_leave_nothing_out_and_nothing_twice(store: EventStore) -> None:
    follower, seen = LogFollower(store.log, Checkpoint(), batch=7), list[tuple[str, int]]()

    async def follow() -> None:
        async for batch in follower:
            seen.extend((event.stream_id, event.stream_version) for event in batch.events)
            if len(seen) >= 90:
                return

    async with asyncio.timeout(WITHIN), asyncio.TaskGroup() as group:
        group.create_task(follow())
        for number in range(6):
            group.create_task(fill(store, 15, f"order-{number}"))

    logged = [(event.stream_id, event.stream_version) async for event in store.read_all()]
    assert seen == logged


async def test_a_batch_of_large_events_has_few_of_them(any_store: EventStore) -> None:
    large = 200_000
    for number in range(3):
        await any_store.append(f"order-{number}", [placed(sku="x" * large)] * 12, expected_version=NO_STREAM)

    batches = await drain(LogFollower(any_store.log, Checkpoint()))

    sizes = [len(batch.events) for batch in batches]
    assert (sum(sizes), sizes[0]) == (36, FIRST_BATCH)
    assert max(sizes[1:]) * large <= PAGE_BYTES


async def test_a_batch_of_small_events_grows_to_what_was_asked_for(any_store: EventStore) -> None:
    for number in range(3):
        await any_store.append(f"order-{number}", [placed(1)] * 100, expected_version=NO_STREAM)

    batches = await drain(LogFollower(any_store.log, Checkpoint(), batch=200))

    assert [len(batch.events) for batch in batches] == [FIRST_BATCH, 8 * FIRST_BATCH, 156]


async def test_a_group_looks_at_more_for_it_fetches_only_its_share(store: EventStore) -> None:
    for number in range(12):
        await store.append(f"order-{number}", [placed(1)] * 200, expected_version=NO_STREAM)
    half = LogFollower(store.log, Checkpoint(), wanted=LogRange(slices=(0, SLICES // 2 - 1)), batch=2000)

    batches = await drain(half)

    assert batches[-1].checkpoint.position - batches[-2].checkpoint.position > PAGE
