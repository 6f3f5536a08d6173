"""`execute`: a conflict runs the command again, a command's id makes it happen once, and failing leaves no trace."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from eventstore import EventStore, Metadata, NewEvent, WrongExpectedVersionError
from eventstore.aggregates.commands import ATTEMPTS
from eventstore.errors import InvalidArgumentError
from fixtures.shop import SHIPPED, NotPlacedError, Order, PlaceOrder, State, order, placed


class CrashError(Exception):
    """What a caller's own code fails with."""


def ship_by_dhl(aggregate: Order) -> None:
    aggregate.ship("dhl")


async def events_of(store: EventStore, stream_id: str = "order-1") -> list[Any]:
    return [event.data async for event in store.read_stream(stream_id)]


def before_the_load(
    monkeypatch: pytest.MonkeyPatch, store: EventStore, happens: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen just before the next load, once."""
    load = store.log.load_folded

    async def load_after(*arguments: Any) -> Any:
        monkeypatch.setattr(store.log, "load_folded", load)
        await happens()
        return await load(*arguments)

    monkeypatch.setattr(store.log, "load_folded", load_after)


def after_the_load(
    monkeypatch: pytest.MonkeyPatch, store: EventStore, happens: Callable[[], Awaitable[object]]
) -> None:
    """Let something happen between the next load and what follows it, once."""
    load = store.log.load_folded

    async def load_before(*arguments: Any) -> Any:
        monkeypatch.setattr(store.log, "load_folded", load)
        loaded = await load(*arguments)
        await happens()
        return loaded

    monkeypatch.setattr(store.log, "load_folded", load_before)


# --- conflicts -------------------------------------------------------------------------------------------------------


async def test_a_conflict_between_load_and_save_runs_the_command_again_on_the_new_state(any_store: EventStore) -> None:
    seen: list[int] = []

    async def place_as_much_again(aggregate: Order) -> None:
        seen.append(aggregate.state.quantity)
        if len(seen) == 1:
            await any_store.append("order-1", [placed(5)], expected_version=1)
        aggregate.place("tea", aggregate.state.quantity)

    await any_store.append("order-1", [placed(1)], expected_version=0)
    result = await any_store.repository(Order).execute("1", place_as_much_again)

    assert seen == [1, 6]
    assert (result.first_version, result.stream_version) == (3, 3)
    assert await events_of(any_store) == [placed(1), placed(5), placed(6)]


async def test_concurrent_commands_all_land(any_store: EventStore) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(any_store.repository(Order).execute("1", lambda aggregate: aggregate.place("tea")))

    assert (await any_store.repository(Order).load("1")).state.quantity == 8
    assert len(await events_of(any_store)) == 8


async def test_a_rule_holds_however_many_try_at_once(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=0)

    outcomes = await asyncio.gather(
        *(any_store.repository(Order).execute("1", lambda aggregate: aggregate.ship("dhl")) for _ in range(6)),
        return_exceptions=True,
    )

    assert sum(isinstance(outcome, NotPlacedError) for outcome in outcomes) == 5
    assert await events_of(any_store) == [placed(), SHIPPED]


async def test_a_command_that_loses_every_time_gives_up_with_the_conflict(any_store: EventStore) -> None:
    runs = 0

    async def overtaken(aggregate: Order) -> None:
        nonlocal runs
        runs += 1
        await any_store.append("order-1", [placed()], expected_version=aggregate.version)
        aggregate.place("coffee")

    with pytest.raises(WrongExpectedVersionError):
        await any_store.repository(Order).execute("1", overtaken)

    assert runs == ATTEMPTS
    assert await events_of(any_store) == [placed()] * ATTEMPTS


async def test_a_failing_command_appends_nothing_and_runs_once(any_store: EventStore) -> None:
    runs = 0

    def place_and_fail(aggregate: Order) -> None:
        nonlocal runs
        runs += 1
        aggregate.place("tea")
        raise CrashError

    with pytest.raises(CrashError):
        await any_store.repository(Order).execute("1", place_and_fail)

    assert runs == 1
    assert await any_store.stream_info("order-1") is None


async def test_a_command_that_emits_nothing_writes_nothing(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    new = await orders.execute("1", lambda _: None)
    assert (new.stream_version, new.event_ids, new.repeated) == (0, (), False)
    assert not await orders.exists("1")

    first = await any_store.append("order-1", [placed()], expected_version=0)
    unchanged = await orders.execute("1", lambda _: None)
    saved = await orders.save(await orders.load("1"))

    for result in (unchanged, saved):
        assert (result.stream_version, result.position, result.event_ids) == (1, first.position, ())
    assert await events_of(any_store) == [placed()]


# --- commands with an id ---------------------------------------------------------------------------------------------


def place_two_and_ship(aggregate: Order) -> None:
    if aggregate.state.status == "shipped":
        raise NotPlacedError(aggregate.key)
    aggregate.place("tea", 1)
    aggregate.place("tea", 2)
    aggregate.ship("dhl")


@pytest.mark.parametrize("command_id", ["checkout-7", uuid4()], ids=["text", "uuid"])
async def test_a_repeated_command_returns_its_first_result_and_does_not_run(
    any_store: EventStore, command_id: Any
) -> None:
    orders = any_store.repository(Order)
    await any_store.append("order-1", [placed(9)], expected_version=0)
    first = await orders.execute("1", place_two_and_ship, command_id=command_id)
    await any_store.append("order-1", [placed(3)], expected_version=4)

    def never(_: Order) -> None:
        pytest.fail("a repeated command ran")

    again = await orders.execute("1", never, command_id=str(command_id))

    assert (again.repeated, first.repeated) == (True, False)
    assert (again.first_version, again.stream_version, again.position) == (2, 4, first.position)
    assert again.event_ids == first.event_ids
    assert len(await events_of(any_store)) == 5


async def test_a_repeated_command_of_a_decider_returns_its_first_result(any_store: EventStore) -> None:
    orders = any_store.repository(order)
    first = await orders.execute("1", PlaceOrder(sku="tea"), command_id="c")
    again = await orders.execute("1", PlaceOrder(sku="coffee"), command_id="c")

    assert (again.repeated, again.event_ids, again.position) == (True, first.event_ids, first.position)
    assert await events_of(any_store) == [placed()]


async def test_a_command_id_counts_in_its_own_stream_only(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    one = await orders.execute("1", lambda aggregate: aggregate.place("tea"), command_id="c")
    two = await orders.execute("2", lambda aggregate: aggregate.place("tea"), command_id="c")

    assert not two.repeated
    assert one.event_ids != two.event_ids


async def test_the_command_id_is_recorded_beside_the_events(any_store: EventStore) -> None:
    await any_store.repository(Order).execute(
        "1", lambda aggregate: aggregate.place("tea"), command_id="c", metadata=Metadata(actor="ann")
    )

    (event,) = await any_store.read_stream("order-1").to_list()
    assert (event.metadata.command_id, event.metadata.actor) == ("c", "ann")


@pytest.mark.parametrize("command_id", ["", "x" * 1000], ids=["empty", "too long"])
async def test_an_impossible_command_id_is_refused_before_anything_runs(any_store: EventStore, command_id: str) -> None:
    def never(_: Order) -> None:
        pytest.fail("the command ran")

    with pytest.raises(InvalidArgumentError, match="command_id"):
        await any_store.repository(Order).execute("1", never, command_id=command_id)


async def test_the_same_command_many_times_at_once_happens_once(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(4)], expected_version=0)
    results = await asyncio.gather(
        *(any_store.repository(Order).execute("1", place_two_and_ship, command_id="c") for _ in range(8))
    )

    assert len({(result.event_ids, result.position, result.stream_version) for result in results}) == 1
    assert sum(not result.repeated for result in results) == 1
    assert await events_of(any_store) == [placed(4), placed(1), placed(2), SHIPPED]


Moment = Callable[[pytest.MonkeyPatch, EventStore, Callable[[], Awaitable[object]]], None]


@pytest.mark.parametrize("moment", [before_the_load, after_the_load])
async def test_a_command_whose_twin_finishes_meanwhile_returns_the_twins_result(
    any_store: EventStore, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    """The rules would refuse it now, as shipped already: it has to see that this was itself."""
    orders = any_store.repository(Order)
    await any_store.append("order-1", [placed()], expected_version=0)
    moment(monkeypatch, any_store, lambda: orders.execute("1", ship_by_dhl, command_id="c"))

    result = await orders.execute("1", ship_by_dhl, command_id="c")

    assert (result.repeated, result.stream_version) == (True, 2)
    assert await events_of(any_store) == [placed(), SHIPPED]


@pytest.mark.parametrize("moment", [before_the_load, after_the_load])
async def test_a_twin_that_decided_otherwise_on_a_later_state_is_the_one_that_counts(
    any_store: EventStore, monkeypatch: pytest.MonkeyPatch, moment: Moment
) -> None:
    orders = any_store.repository(Order)
    await any_store.append("order-1", [placed(1)], expected_version=0)

    def double(aggregate: Order) -> None:
        aggregate.place("tea", aggregate.state.quantity)

    async def somebody_and_the_twin() -> None:
        await any_store.append("order-1", [placed(10)], expected_version=1)
        await orders.execute("1", double, command_id="c")

    moment(monkeypatch, any_store, somebody_and_the_twin)
    result = await orders.execute("1", double, command_id="c")

    assert (result.repeated, result.stream_version) == (True, 3)
    assert await events_of(any_store) == [placed(1), placed(10), placed(11)]


# --- in a transaction ------------------------------------------------------------------------------------------------


async def test_commands_in_a_transaction_commit_together(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    async with any_store.transaction() as tx:
        await orders.execute("1", lambda aggregate: aggregate.place("tea"), tx=tx)
        other = await orders.load_or_new("2", tx=tx)
        other.place("coffee", 2)
        await orders.save(other, tx=tx)
        await any_store.repository(order).execute("3", PlaceOrder(sku="cake"), tx=tx)

        assert (await orders.load("1", tx=tx)).state.status == "placed"
        assert await orders.exists("2", tx=tx)
        assert [await orders.exists(key) for key in "123"] == [False] * 3

    assert [(await orders.load(key)).state.quantity for key in "123"] == [1, 2, 1]


async def test_commands_in_a_transaction_roll_back_together(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    with pytest.raises(NotPlacedError):
        async with any_store.transaction() as tx:
            await orders.execute("1", lambda aggregate: aggregate.place("tea"), tx=tx)
            await orders.execute("2", ship_by_dhl, tx=tx)

    assert await any_store.read_all().to_list() == []


async def test_a_second_command_in_a_transaction_sees_the_first(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    async with any_store.transaction() as tx:
        await orders.execute("1", lambda aggregate: aggregate.place("tea"), tx=tx, command_id="c")
        again = await orders.execute("1", lambda aggregate: aggregate.place("tea"), tx=tx, command_id="c")
        await orders.execute("1", ship_by_dhl, tx=tx)

    assert again.repeated
    assert await events_of(any_store) == [placed(), SHIPPED]


async def test_a_conflict_in_a_transaction_runs_the_command_again_in_it(any_store: EventStore) -> None:
    seen: list[State] = []

    async def place_after_another(aggregate: Order) -> None:
        seen.append(aggregate.state)
        if len(seen) == 1:
            await any_store.append("order-1", [NewEvent(placed(5))], expected_version=0)
        aggregate.place("tea")

    async with any_store.transaction() as tx:
        await any_store.repository(Order).execute("1", place_after_another, tx=tx)

    assert [state.quantity for state in seen] == [0, 5]
    assert await events_of(any_store) == [placed(5), placed()]
