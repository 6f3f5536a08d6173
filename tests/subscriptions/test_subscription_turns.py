"""A subscription reads alone, with its effect, through outages, and only the log that it has read; it can be reset."""

from __future__ import annotations

import asyncio
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
    SubscriptionReader,
    delete_subscription,
    reset_subscription,
)
from eventstore.errors import (
    LeaseLostError,
    LogMismatchError,
    SubscriptionInUseError,
)
from eventstore.subscriptions import Checkpoint, Checkpoints
from eventstore.subscriptions.interest import Interest
from fixtures.shop import NoteTaken, OrderPlaced, placed
from fixtures.stores import open_store
from fixtures.subscribing import WITHIN, fill, kept, quantities, take, waiting_for
from fixtures.tcp_proxy import TcpProxy

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
