"""A subscription reads every event at least once, in order, alone, and comes back to where it was committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from eventstore import (
    ANY,
    BEGINNING,
    END,
    NO_STREAM,
    EventStore,
    Position,
    RecordedEvent,
    SubscriptionReader,
    delete_subscription,
    recorded_from,
    reset_subscription,
)
from eventstore.errors import (
    ClosedError,
    InvalidArgumentError,
    LeaseLostError,
    LogMismatchError,
    SubscriptionInUseError,
)
from eventstore.subscriptions import Checkpoint, Checkpoints, EventBatch
from eventstore.subscriptions.interest import Interest
from eventstore.testing import FakeClock
from fixtures.shop import NoteTaken, OrderPlaced, placed
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy

WITHIN = 30
"""Seconds in which anything that is waited for must happen, so that a failing test does not hang."""


async def fill(store: EventStore, count: int, stream_id: str = "order-1", first: int = 1) -> None:
    for number in range(first, first + count):
        await store.append(stream_id, [placed(number)], expected_version=ANY)


def quantities(batch: EventBatch[Any]) -> list[int]:
    return [event.data.quantity for event in batch]


async def take(reader: SubscriptionReader[Any], count: int, *, commit: bool = True) -> list[int]:
    """Read until so many events have come."""
    found: list[int] = []
    async with asyncio.timeout(WITHIN):
        while len(found) < count:
            batch = await anext(reader)
            found += quantities(batch)
            if commit:
                await batch.commit()
    return found


async def kept(store: EventStore, name: str = "mailer") -> int:
    return (await Checkpoints(store.log.session).load(f"subscription:{name}")).position


@asynccontextmanager
async def waiting_for(reader: SubscriptionReader[Any], state: str) -> AsyncIterator[asyncio.Task[EventBatch[Any]]]:
    """Ask for a batch, and go on once the reader is in a state."""
    asked = asyncio.ensure_future(anext(reader))
    async with asyncio.timeout(WITHIN):
        await reader.progress.until(lambda: reader.state == state)
        yield asked
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)


# --- reading and coming back ---------------------------------------------------------------------------------------


async def test_it_reads_everything_in_order_and_goes_on_where_it_was_committed(any_store: EventStore) -> None:
    await fill(any_store, 7)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=2) as reader:
        assert await take(reader, 4) == [1, 2, 3, 4]

    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 3) == [5, 6, 7]


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
    await fill(any_store, 70)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)

        assert quantities(batch) == quantities(batch) == list(range(1, 71))


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


# --- alone ---------------------------------------------------------------------------------------------------------


async def test_a_second_reader_waits_for_its_turn(any_store: EventStore) -> None:
    await fill(any_store, 2)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING, batch=1) as first:
        assert await take(first, 1) == [1]
        second = any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING)
        async with second, waiting_for(second, "waiting") as asked:
            await asyncio.sleep(0)
            assert not asked.done()
            await first.__aexit__(None, None, None)
            assert quantities(await asked) == [2]


async def test_readers_of_other_names_do_not_wait(any_store: EventStore) -> None:
    await fill(any_store, 2)
    async with (
        any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as first,
        any_store.subscription("sms", of=OrderPlaced, start=BEGINNING) as second,
    ):
        assert await take(first, 2) == await take(second, 2) == [1, 2]


async def test_whoever_has_lost_the_turn_cannot_commit_and_begins_again(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        await reset_subscription(any_store, "mailer", to=Position(1))

        with pytest.raises(LeaseLostError):
            await batch.commit()
        assert await kept(any_store) == 1
        await reader.start_over(LeaseLostError("mailer"))
        assert await take(reader, 2) == [2, 3]


async def test_the_turn_of_a_dead_reader_ends_by_itself(any_store: EventStore) -> None:
    await fill(any_store, 2)
    dead: SubscriptionReader[Any] = SubscriptionReader(
        any_store.log, "mailer", Interest.of(any_store.codec, OrderPlaced), start=BEGINNING, lease_seconds=0.3
    )
    async with dead:
        old = await anext(dead)
        assert dead._hold is not None
        dead._hold.keeper.cancel()  # as if its process stood still

        async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
            assert await take(reader, 2) == [1, 2]
            with pytest.raises(LeaseLostError):
                await old.commit()


# --- effect and checkpoint together --------------------------------------------------------------------------------


async def test_effect_and_checkpoint_commit_together(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with any_store.subscription("copier", of=OrderPlaced, start=BEGINNING, batch=1) as reader:
        for _ in range(2):
            batch = await anext(reader)
            async with any_store.transaction() as tx:
                for event in batch:
                    await tx.append("copy-1", [event.data], expected_version=ANY)
                await batch.commit(tx)
        batch = await anext(reader)
        with pytest.raises(ZeroDivisionError):
            async with any_store.transaction() as tx:
                for event in batch:
                    await tx.append("copy-1", [event.data], expected_version=ANY)
                await batch.commit(tx)
                raise ZeroDivisionError

    copies = [event.data.quantity async for event in any_store.read_stream("copy-1", of=OrderPlaced)]
    assert (copies, await kept(any_store, "copier")) == ([1, 2], 2)


async def test_a_transaction_that_was_rolled_back_can_be_run_again(any_store: EventStore) -> None:
    await fill(any_store, 1)
    async with any_store.subscription("copier", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        with pytest.raises(ZeroDivisionError):
            async with any_store.transaction() as tx:
                await batch.commit(tx)
                raise ZeroDivisionError
        assert await kept(any_store, "copier") == 0
        async with any_store.transaction() as tx:
            await batch.commit(tx)

    assert await kept(any_store, "copier") == 1


async def test_a_rolled_back_checkpoint_is_not_passed_over(
    any_store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reader goes on as if nothing had happened: what was in hand must still come again after a restart."""
    monkeypatch.setattr("eventstore.subscriptions.holding.PASSED_SECONDS", 0.0)
    await fill(any_store, 1)
    async with any_store.subscription("copier", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        with pytest.raises(ZeroDivisionError):
            async with any_store.transaction() as tx:
                await batch.commit(tx)
                raise ZeroDivisionError
        await any_store.append("note-1", [NoteTaken(text="x")], expected_version=NO_STREAM)
        async with waiting_for(reader, "live"):
            pass

    assert await kept(any_store, "copier") == 0


# --- outages and other logs ----------------------------------------------------------------------------------------


async def test_it_waits_out_an_outage_and_leaves_nothing_out(proxy: TcpProxy, store: EventStore) -> None:
    await fill(store, 3)
    async with open_store(proxy.dsn) as behind, behind.subscription("m", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 3) == [1, 2, 3]
        async with waiting_for(reader, "live") as asked:
            proxy.refuse()
            await reader.progress.until(lambda: reader.state == "backing off")
            await fill(store, 2, first=4)
            proxy.accept()

            assert quantities(await asked) == [4, 5]


async def lose_tail(connection: asyncpg.Connection, after: int) -> None:
    """As a failover to a replica that was behind does."""
    await connection.execute("ALTER TABLE eventstore.events DISABLE TRIGGER events_no_change")
    await connection.execute("DELETE FROM eventstore.events WHERE global_position > $1", after)


async def test_it_stops_when_the_log_has_lost_what_it_has_read_though_nothing_new_comes(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        await take(reader, 3)
        async with waiting_for(reader, "live") as asked:
            await lose_tail(connection, 2)

            with pytest.raises(LogMismatchError, match="position 3"):
                await asked
    assert reader.state == "failed"


async def test_it_stops_before_anything_is_skipped_when_the_tail_was_replaced(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """What took the lost places is never taken for what was there."""
    await fill(store, 3)
    async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        await take(reader, 3)
        await lose_tail(connection, 1)
        await connection.execute("SELECT setval('eventstore.events_global_position_seq', 1)")
        await fill(store, 5, "order-2", first=10)

        with pytest.raises(LogMismatchError, match="position 3"):
            await anext(reader)
    with pytest.raises(LogMismatchError):
        async with store.subscription("mailer", start=BEGINNING) as reader:
            await anext(reader)


async def test_a_follower_trusts_no_mark_of_another_run_of_the_server(store: EventStore) -> None:
    """As after a failover in the middle of catching up: the old primary's mark says nothing of the new one's log."""
    await fill(store, 4)
    marks: list[int] = []
    settled = store.log.settled

    async def another_run(*_: Any) -> Any:
        mark = await settled()
        marks.append(mark.position)
        return mark._replace(run="another") if len(marks) == 1 else mark

    store.log.settled = another_run  # type: ignore[method-assign]
    async with store.subscription("mailer", of=OrderPlaced, start=Position(1)) as reader:
        marks.clear()
        assert await take(reader, 3) == [2, 3, 4]
    assert len(marks) > 1


# --- resetting and deleting ----------------------------------------------------------------------------------------


async def test_it_can_be_reset_to_any_place(any_store: EventStore) -> None:
    await fill(any_store, 3)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        await take(reader, 3)

    assert await reset_subscription(any_store, "mailer", to=Position(2)) == Position(2)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 1) == [3]
    assert await reset_subscription(any_store, "mailer", to=BEGINNING) == BEGINNING
    async with any_store.subscription("mailer", of=OrderPlaced, start=END) as reader:
        assert await take(reader, 3) == [1, 2, 3]
    assert await reset_subscription(any_store, "new", to=END) == Position(3)


async def test_a_live_reader_follows_a_reset(any_store: EventStore) -> None:
    await fill(any_store, 3)
    reader: SubscriptionReader[OrderPlaced] = SubscriptionReader(
        any_store.log, "mailer", Interest.of(any_store.codec, OrderPlaced), start=BEGINNING, lease_seconds=0.3
    )
    async with reader:
        await take(reader, 3)
        async with waiting_for(reader, "live") as asked:
            await reset_subscription(any_store, "mailer", to=Position(1))

            assert quantities(await asked) == [2, 3]


async def test_a_deleted_one_begins_at_its_start(any_store: EventStore) -> None:
    await fill(any_store, 2)
    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        await take(reader, 2)
        with pytest.raises(SubscriptionInUseError, match="mailer"):
            await delete_subscription(any_store, "mailer")
    await delete_subscription(any_store, "mailer")

    async with any_store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 2) == [1, 2]


# --- without a name ------------------------------------------------------------------------------------------------


async def test_a_transient_reader_reads_what_is_there_and_what_comes(any_store: EventStore) -> None:
    await fill(any_store, 2)
    following = any_store.follow(of=OrderPlaced, start=Position(1))
    async with asyncio.timeout(WITHIN):
        found = [(await anext(following)).data.quantity]
        asked = asyncio.ensure_future(anext(following))
        await any_store.append("order-1", [NoteTaken(text="x"), placed(3)], expected_version=2)
        found.append((await asked).data.quantity)

    assert found == [2, 3]
    assert await Checkpoints(any_store.log.session).load("subscription:mailer") == Checkpoint()
