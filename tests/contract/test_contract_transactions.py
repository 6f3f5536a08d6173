"""Transactions: several appends that commit together, are invisible before, and survive a conflict inside."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.errors import (
    ClosedError,
    SelfDeadlockError,
    TransactionConflictError,
    UnstorablePayloadError,
    WrongExpectedVersionError,
)
from fixtures.shop import SHIPPED, NoteTaken, Order, PlaceOrder, order, placed


async def streams(store: EventStore) -> list[tuple[str, int]]:
    """Return the streams with their versions."""
    return [(info.stream_id, info.version) async for info in store.list_streams()]


async def test_appends_commit_together(any_store: EventStore) -> None:
    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        await tx.append("order-2", [placed()], expected_version=NO_STREAM)
        await tx.append("order-1", [SHIPPED], expected_version=1)
        assert await streams(any_store) == []

    assert await streams(any_store) == [("order-1", 2), ("order-2", 1)]


@pytest.mark.origin("commanded")
async def test_an_exception_undoes_everything(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(ZeroDivisionError):
        async with any_store.transaction() as tx:
            await tx.append("order-1", [SHIPPED], expected_version=1)
            await tx.append("order-2", [placed()], expected_version=NO_STREAM)
            raise ZeroDivisionError

    assert await streams(any_store) == [("order-1", 1)]
    await any_store.append("order-1", [SHIPPED], expected_version=1)
    assert len(await any_store.read_all().to_list()) == 2


async def test_a_cancelled_transaction_is_undone(any_store: EventStore) -> None:
    appended = asyncio.Event()

    async def work() -> None:
        async with any_store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            appended.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await appended.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await streams(any_store) == []
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)


async def test_a_transaction_reads_what_it_wrote(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(1)], expected_version=NO_STREAM)

    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed(2)], expected_version=1)
        events = await tx.read_stream("order-1").to_list()
        info = await tx.stream_info("order-1")

    assert [event.data.quantity for event in events] == [1, 2]
    assert info is not None
    assert info.version == 2


async def test_a_conflict_inside_leaves_it_usable(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    async with any_store.transaction() as tx:
        with pytest.raises(WrongExpectedVersionError) as raised:
            await tx.append("order-1", [SHIPPED], expected_version=7)
        assert raised.value.actual == 1
        with pytest.raises(UnstorablePayloadError):
            await tx.append("note-1", [NoteTaken(text="\x00")], expected_version=NO_STREAM)
        await tx.append("order-1", [SHIPPED], expected_version=1)

    assert await streams(any_store) == [("order-1", 2)]


async def test_a_conflict_sees_the_transactions_own_events(any_store: EventStore) -> None:
    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        with pytest.raises(WrongExpectedVersionError) as raised:
            await tx.append("order-1", [SHIPPED], expected_version=NO_STREAM)
        assert raised.value.actual == 1


@pytest.mark.origin("message-db")
async def test_a_writer_waits_for_the_transaction_that_wrote_its_stream(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    wrote, may_commit = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with any_store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=1)
            wrote.set()
            await may_commit.wait()

    holder = asyncio.create_task(first())
    await wrote.wait()
    waiting = asyncio.create_task(any_store.append("order-1", [SHIPPED], expected_version=1))
    await any_store.append("order-2", [placed()], expected_version=NO_STREAM)  # others are not held up
    assert not waiting.done()
    may_commit.set()
    await holder

    with pytest.raises(WrongExpectedVersionError) as raised:
        await waiting
    assert raised.value.actual == 2


async def test_a_writer_goes_on_when_the_transaction_before_it_is_undone(any_store: EventStore) -> None:
    wrote, may_fail = asyncio.Event(), asyncio.Event()

    async def first() -> None:
        async with any_store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            wrote.set()
            await may_fail.wait()
            raise ZeroDivisionError

    holder = asyncio.create_task(first())
    await wrote.wait()
    waiting = asyncio.create_task(any_store.append("order-1", [SHIPPED], expected_version=NO_STREAM))
    await any_store.read_all().to_list()
    may_fail.set()
    with pytest.raises(ZeroDivisionError):
        await holder

    assert (await waiting).stream_version == 1


async def test_an_append_outside_that_would_wait_for_itself_is_refused_at_once(any_store: EventStore) -> None:
    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        with pytest.raises(SelfDeadlockError) as raised:
            await any_store.append("order-1", [SHIPPED], expected_version=ANY)
        await any_store.append("order-2", [placed()], expected_version=NO_STREAM)

    assert raised.value.stream_id == "order-1"
    await any_store.append("order-1", [SHIPPED], expected_version=1)


async def test_an_append_that_a_transaction_refused_holds_its_stream_all_the_same(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with any_store.transaction() as tx:
        with pytest.raises(WrongExpectedVersionError):
            await tx.append("order-1", [SHIPPED], expected_version=7)
        with pytest.raises(SelfDeadlockError):
            async with asyncio.timeout(5):
                await any_store.append("order-1", [SHIPPED], expected_version=1)

    await any_store.append("order-1", [SHIPPED], expected_version=1)


async def test_transactions_that_wait_for_each_other_are_told_apart(any_store: EventStore) -> None:
    """One of them is given up, as a conflict that can be run again; the other one commits."""
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    await any_store.append("order-2", [placed()], expected_version=NO_STREAM)
    both_wrote = asyncio.Barrier(2)

    async def write(first: str, second: str) -> str:
        try:
            async with any_store.transaction() as tx:
                await tx.append(first, [SHIPPED], expected_version=ANY)
                await both_wrote.wait()
                await tx.append(second, [SHIPPED], expected_version=ANY)
        except TransactionConflictError as error:
            assert error.retryable
            return "given up"
        return "committed"

    ended = await asyncio.gather(write("order-1", "order-2"), write("order-2", "order-1"))

    assert sorted(ended) == ["committed", "given up"]
    assert await streams(any_store) == [("order-1", 2), ("order-2", 2)]


async def test_a_transaction_refuses_to_be_used_after_its_end(any_store: EventStore) -> None:
    async with any_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(ClosedError, match="transaction"):
        await tx.append("order-1", [SHIPPED], expected_version=1)
    with pytest.raises(ClosedError, match="transaction"):
        await tx.read_stream("order-1").to_list()
    assert await streams(any_store) == [("order-1", 1)]


async def test_transactions_of_one_task_can_be_nested(any_store: EventStore) -> None:
    async with any_store.transaction() as outer:
        await outer.append("order-1", [placed()], expected_version=NO_STREAM)
        async with any_store.transaction() as inner:
            await inner.append("order-2", [placed()], expected_version=NO_STREAM)
        assert await streams(any_store) == [("order-2", 1)]

    assert await streams(any_store) == [("order-1", 1), ("order-2", 1)]


async def test_repositories_work_inside_a_transaction(any_store: EventStore) -> None:
    orders, deciders = any_store.repository(Order), any_store.repository(order)

    async with any_store.transaction() as tx:
        await orders.execute("1", lambda o: o.place("tea"), tx=tx)
        await deciders.execute("2", PlaceOrder(sku="coffee"), tx=tx)
        loaded = await orders.load("1", tx=tx)
        loaded.ship("dhl")
        await orders.save(loaded, tx=tx)
        assert await streams(any_store) == []

    assert await streams(any_store) == [("order-1", 2), ("order-2", 1)]


async def test_a_command_in_a_transaction_that_was_given_up_says_so_at_once(any_store: EventStore) -> None:
    """Only the transaction's owner can run it again: PostgreSQL refuses everything else in it."""
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    await any_store.append("order-2", [placed()], expected_version=NO_STREAM)
    orders, both_wrote = any_store.repository(Order), asyncio.Barrier(2)

    async def ship_both(first: str, second: str) -> str:
        try:
            async with any_store.transaction() as tx:
                await orders.execute(first, lambda one: one.ship("dhl"), tx=tx)
                await both_wrote.wait()
                await orders.execute(second, lambda one: one.place("tea"), tx=tx)
        except TransactionConflictError:
            return "given up"
        return "committed"

    ended = await asyncio.gather(ship_both("1", "2"), ship_both("2", "1"))

    assert sorted(ended) == ["committed", "given up"]
