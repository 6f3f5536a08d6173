"""A subscription reads every event at least once, in order, from its start, and again from where it committed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from eventstore import (
    BEGINNING,
    END,
    NO_STREAM,
    EventStore,
    Position,
    RecordedEvent,
    recorded_from,
)
from eventstore.errors import (
    ClosedError,
    InvalidArgumentError,
    TransactionConflictError,
)
from eventstore.subscriptions.following import FIRST_BATCH
from eventstore.subscriptions.holding import Hold
from eventstore.subscriptions.leases import LEASE_SECONDS
from eventstore.testing import FakeClock
from fixtures.shop import NoteTaken, OrderPlaced, placed
from fixtures.stores import open_store
from fixtures.subscribing import fill, kept, quantities, take, waiting_for

# --- reading and coming back ---------------------------------------------------------------------------------------


async def test_it_reads_everything_in_order_and_goes_on_where_it_was_committed(any_store: EventStore) -> None:
    await fill(any_store, 7)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=2) as reader:
        assert await take(reader, 4) == [1, 2, 3, 4]

    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 3) == [5, 6, 7]


async def test_a_turn_whose_last_move_meets_a_conflict_is_over_all_the_same(
    any_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def conflicts(_: Hold, *, now: bool = False) -> None:
        if now:
            raise TransactionConflictError("deadlock")

    await fill(any_store, 3)
    with monkeypatch.context() as patched:
        patched.setattr(Hold, "settle", conflicts)
        async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=2) as reader:
            assert await take(reader, 2) == [1, 2]

    async with asyncio.timeout(LEASE_SECONDS / 2):  # nobody waits for the lease of the one before
        async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
            assert await take(reader, 1) == [3]


async def test_what_is_not_committed_comes_again(any_store: EventStore) -> None:
    await fill(any_store, 5)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=2) as reader:
        assert await take(reader, 2) == [1, 2]
        assert await take(reader, 2, commit=False) == [3, 4]

    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 3) == [3, 4, 5]


async def test_committing_a_batch_commits_those_before_it(any_store: EventStore) -> None:
    await fill(any_store, 6)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=2) as reader:
        await take(reader, 2, commit=False)
        await take(reader, 2)

    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 2) == [5, 6]


async def test_a_batch_can_be_committed_again(any_store: EventStore) -> None:
    await fill(any_store, 2)
    async with any_store.subscription("mailer", start=BEGINNING) as reader:
        batch = await anext(reader)
        await batch.commit()
        await batch.commit()

        assert reader.position == batch.position


async def test_a_batch_can_be_iterated_over_again(any_store: EventStore) -> None:
    await fill(any_store, FIRST_BATCH + 70)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        await take(reader, FIRST_BATCH)
        batch = await anext(reader)

        assert quantities(batch) == quantities(batch) == list(range(FIRST_BATCH + 1, FIRST_BATCH + 71))


async def test_live_events_come_as_they_are_appended(any_store: EventStore) -> None:
    async with (
        any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader,
        waiting_for(reader, "live") as asked,
    ):
        await fill(any_store, 1)

        assert quantities(await asked) == [1]


async def test_an_append_of_the_same_store_wakes_it(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pauses are an hour long: only the wake-up ends one."""
    monkeypatch.setattr("eventstore.subscriptions.following._LONGEST_PAUSE", 3600)
    async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        reader._polling._pause = 3600
        async with waiting_for(reader, "live") as asked:
            await fill(store, 1)
            assert quantities(await asked) == [1]

        reader._polling._pause = 3600
        async with waiting_for(reader, "live") as asked:
            async with store.transaction() as tx:
                await tx.append("order-2", [placed(2)], expected_version=NO_STREAM)
            assert quantities(await asked) == [2]


async def test_somebody_who_heard_of_events_can_wake_it(dsn: str, store: EventStore) -> None:
    async with (
        open_store(dsn) as other,
        store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader,
    ):
        reader._polling._pause = 3600
        async with waiting_for(reader, "live") as asked:
            await fill(other, 1)
            store.wake()
            assert quantities(await asked) == [1]


async def test_one_batch_is_in_hand_and_one_ahead_at_most(store: EventStore) -> None:
    read: list[int] = []
    read_on = store.log.read_on

    async def counted(*args: Any) -> Any:
        read.append(args[1])
        return await read_on(*args)

    store.log.read_on = counted  # type: ignore[method-assign, assignment]
    await fill(store, 9)
    async with store.subscription("mailer", start=BEGINNING, batch=2) as reader:
        await anext(reader)
        hold = reader._hold
        assert hold is not None
        assert hold._ahead is not None
        await hold._ahead

        assert len(read) == 2


async def test_a_reader_that_is_not_open_gives_nothing(any_store: EventStore) -> None:
    reader = any_store.subscription("mailer", start=BEGINNING)
    with pytest.raises(ClosedError):
        await anext(reader)


# --- what is wanted ------------------------------------------------------------------------------------------------


async def test_categories_types_and_a_predicate_choose(any_store: EventStore) -> None:
    def is_odd(event: RecordedEvent[OrderPlaced]) -> bool:
        return event.data.quantity % 2 == 1

    await fill(any_store, 4)
    await fill(any_store, 4, "cart-1", first=11)
    await any_store.append("order-2", [NoteTaken(text="x")], expected_version=NO_STREAM)

    async with any_store.subscription(
        "mailer", of=OrderPlaced, categories=["order"], where=is_odd, start=BEGINNING
    ) as reader:
        assert await take(reader, 2) == [1, 3]


async def test_batches_without_anything_wanted_do_not_come(any_store: EventStore) -> None:
    await any_store.append("note-1", [NoteTaken(text="x")] * 9, expected_version=NO_STREAM)
    await fill(any_store, 1)

    async with any_store.subscription(
        "mailer", of=OrderPlaced, where=lambda event: event.data.quantity == 1, start=BEGINNING, batch=2
    ) as reader:
        assert quantities(await anext(reader)) == [1]


async def test_passed_over_events_move_the_checkpoint(any_store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.subscriptions.holding.PASSED_SECONDS", 0.0)
    await fill(any_store, 3)
    async with any_store.subscription("mailer", of=NoteTaken, start=BEGINNING) as reader:
        async with waiting_for(reader, "live"):
            assert await kept(any_store) == 3
        assert reader.position == Position(3)


async def test_passed_over_events_do_not_move_the_checkpoint_over_what_is_in_hand(
    any_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.subscriptions.holding.PASSED_SECONDS", 0.0)
    await fill(any_store, 1)
    await any_store.append("note-1", [NoteTaken(text="x")] * 3, expected_version=NO_STREAM)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=1) as reader:
        await anext(reader)
        async with waiting_for(reader, "live"):
            pass

    assert await kept(any_store) == 0


async def test_leaving_moves_the_checkpoint_over_what_was_passed_over(any_store: EventStore) -> None:
    await fill(any_store, 1)
    await any_store.append("note-1", [NoteTaken(text="x")] * 3, expected_version=NO_STREAM)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=1) as reader:
        await take(reader, 1)
        async with waiting_for(reader, "live"):
            pass

    assert await kept(any_store) == 4


# --- where it begins -----------------------------------------------------------------------------------------------


async def test_it_begins_at_the_end(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with (
        any_store.subscription("mailer", of=OrderPlaced, start=END) as reader,
        waiting_for(reader, "live") as asked,
    ):
        await fill(any_store, 1, first=4)
        assert quantities(await asked) == [4]


async def test_the_end_is_where_it_was_when_the_name_was_first_read(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with any_store.subscription("mailer", of=OrderPlaced, start=END) as reader, waiting_for(reader, "live"):
        pass
    await fill(any_store, 1, first=4)

    async with any_store.subscription("mailer", of=OrderPlaced, start=END) as reader:
        assert await take(reader, 1) == [4]


async def test_it_begins_after_a_position(any_store: EventStore) -> None:
    await fill(any_store, 2)
    result = await any_store.append("order-1", [placed(3)], expected_version=2)
    await fill(any_store, 1, first=4)

    async with any_store.subscription("mailer", of=OrderPlaced, start=result.position) as reader:
        assert await take(reader, 1) == [4]


async def test_it_begins_at_a_time_of_recording(any_store: EventStore, clock: FakeClock) -> None:
    await fill(any_store, 2)
    clock.advance(hours=1)
    result = await any_store.append("order-2", [placed(3)], expected_version=NO_STREAM)
    (event,) = [event async for event in any_store.read_stream("order-2")]
    await fill(any_store, 1, first=4)

    async with any_store.subscription("mailer", of=OrderPlaced, start=recorded_from(event.recorded_at)) as reader:
        assert await take(reader, 2) == [3, 4]
    late = datetime(2999, 1, 1, tzinfo=UTC)
    async with any_store.subscription("later", start=recorded_from(late)) as reader, waiting_for(reader, "live"):
        assert reader.position > result.position


async def test_its_start_counts_only_where_there_is_no_checkpoint(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=1) as reader:
        await take(reader, 1)

    async with any_store.subscription("mailer", of=OrderPlaced, start=END) as reader:
        assert await take(reader, 2) == [2, 3]


async def test_a_position_that_the_log_has_not_come_to_is_refused(any_store: EventStore) -> None:
    async with any_store.subscription("mailer", start=Position(99)) as reader:
        with pytest.raises(InvalidArgumentError, match="position 99"):
            await anext(reader)


@pytest.mark.parametrize("start", [datetime(2024, 1, 1, tzinfo=UTC), 3, "end", None])
async def test_a_start_that_is_none_is_refused(any_store: EventStore, start: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        any_store.subscription("mailer", start=start)
