"""Declaring aggregates: with `evolve`, with `@handles`, or as two functions. They fold and decide alike."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from eventstore import Aggregate, Decider, EventStore, NewEvent, handles
from eventstore.errors import ConfigurationError, InvalidArgumentError
from eventstore.testing import FakeClock
from fixtures.shop import (
    SHIPPED,
    NoteTaken,
    Order,
    OrderEvent,
    OrderPlaced,
    OrderShipped,
    PlaceOrder,
    State,
    evolve,
    order,
    placed,
)


class HandledOrder(Aggregate[State, OrderEvent], category="order"):
    @handles(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> State:
        return State(status="placed", quantity=self.state.quantity + event.quantity)

    @handles(OrderShipped)
    def _shipped(self, _: OrderShipped) -> State:
        return self.state.model_copy(update={"status": "shipped"})


class Places(Aggregate[State, OrderEvent], category="order"):
    """Does not care for what else happens to an order."""

    @handles(OrderPlaced)
    def _placed(self, event: OrderPlaced) -> State:
        return State(status="placed", quantity=self.state.quantity + event.quantity)


async def test_all_styles_fold_the_same_events_to_the_same_state(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(2), placed(3), SHIPPED], expected_version=0)

    with_evolve = await any_store.repository(Order).load("1")
    with_handles = await any_store.repository(HandledOrder).load("1")
    with_functions = await any_store.repository(order).load("1")

    assert with_evolve.state == with_handles.state == with_functions.state == State(status="shipped", quantity=5)
    assert with_evolve.version == with_handles.version == with_functions.version == 3
    assert with_evolve.position == with_handles.position == with_functions.position


async def test_an_event_without_a_handler_leaves_the_state_and_counts_for_the_version(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(2), SHIPPED], expected_version=0)

    loaded = await any_store.repository(Places).load("1")

    assert (loaded.state, loaded.version) == (State(status="placed", quantity=2), 2)


@pytest.mark.parametrize("kind", [Order, HandledOrder])
def test_emitting_changes_the_state_at_once_and_the_version_not_yet(kind: type[Aggregate[State, OrderEvent]]) -> None:
    aggregate = kind("1", State())

    aggregate.emit(placed(2))
    aggregate.emit(SHIPPED, occurred_at=FakeClock()())

    assert aggregate.state == State(status="shipped", quantity=2)
    assert aggregate.version == 0
    assert aggregate.pending == (NewEvent(placed(2)), NewEvent(SHIPPED, occurred_at=FakeClock()()))


def test_an_event_outside_the_declared_union_is_refused_and_nothing_changes() -> None:
    aggregate: Any = Order("1", State())

    with pytest.raises(InvalidArgumentError, match="does not declare NoteTaken"):
        aggregate.emit(NoteTaken(text="no"))

    assert (aggregate.state, aggregate.pending) == (State(), ())


def test_a_subclass_of_a_declared_event_is_another_event() -> None:
    class Gift(OrderPlaced):
        pass

    with pytest.raises(InvalidArgumentError, match="does not declare"):
        Order("1", State()).emit(Gift(sku="tea", quantity=1))


def test_an_aggregate_without_a_way_to_fold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs one way to fold"):

        class _Neither(Aggregate[State, OrderEvent], category="order"):
            pass


def test_an_aggregate_with_two_ways_to_fold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="needs one way to fold"):

        class _Both(Aggregate[State, OrderEvent], category="order"):
            evolve = staticmethod(evolve)

            @handles(OrderPlaced)
            def _placed(self, _: OrderPlaced) -> State:
                return self.state


def test_an_aggregate_that_does_not_say_its_events_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="does not say its state and events"):

        class _Untyped(Aggregate, category="order"):  # type: ignore[type-arg]
            evolve = staticmethod(evolve)


async def test_the_state_before_the_first_event_can_be_made_by_a_function(any_store: EventStore) -> None:
    class Restocked(Aggregate[State, OrderEvent], category="order", initial=lambda: State(quantity=100)):
        evolve = staticmethod(evolve)

    await any_store.append("order-1", [placed(2)], expected_version=0)
    orders = any_store.repository(Restocked)

    assert (await orders.load("1")).state.quantity == 102
    assert (await orders.load_or_new("2")).state.quantity == 100


async def test_a_decider_decides_on_the_folded_state(any_store: EventStore) -> None:
    orders = any_store.repository(order)

    first = await orders.execute("1", PlaceOrder(sku="tea", quantity=2))
    second = await orders.execute("1", PlaceOrder(sku="tea", quantity=9))

    assert (first.stream_version, second.stream_version, second.event_ids) == (1, 1, ())
    assert (await orders.load("1")).state == State(status="placed", quantity=2)


async def test_a_decider_can_say_when_it_happened(any_store: EventStore) -> None:
    then = FakeClock().advance(days=-3)

    def decide(command: BaseModel, state: State) -> list[NewEvent]:
        del command, state
        return [NewEvent(placed(), occurred_at=then)]

    decider = Decider(category="order", events=OrderEvent, initial=State, decide=decide, evolve=evolve)
    await any_store.repository(decider).execute("1", PlaceOrder(sku="tea"))

    (event,) = await any_store.read_stream("order-1").to_list()
    assert event.occurred_at == then


def test_two_handlers_of_one_event_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"two handlers for OrderPlaced: .*_one and .*_other"):

        class _Twice(Aggregate[State, OrderEvent], category="order"):
            @handles(OrderPlaced)
            def _one(self, _event: OrderPlaced) -> State:
                return State()

            @handles(OrderShipped, OrderPlaced)
            def _other(self, _event: OrderEvent) -> State:
                return State()


def test_a_handler_that_overrides_another_takes_its_place() -> None:
    class Again(HandledOrder, Aggregate[State, OrderEvent], category="again"):
        @handles(OrderPlaced)
        def _placed(self, _event: OrderPlaced) -> State:
            return State(quantity=666)

    again = Again("1", State())
    again.emit(placed(1))
    assert again.state.quantity == 666


def test_a_handler_of_an_event_that_is_not_declared_is_refused_when_the_class_is_made() -> None:
    with pytest.raises(ConfigurationError, match=r"handles NoteTaken, which it does not declare.*_noted"):

        class _Stray(Aggregate[State, OrderEvent], category="order"):
            @handles(NoteTaken)
            def _noted(self, _event: NoteTaken) -> State:
                return State()


def test_marks_add_up_and_one_without_an_event_is_refused() -> None:
    class Marked(Aggregate[State, OrderEvent], category="order"):
        @handles(OrderPlaced)
        @handles(OrderShipped)
        def _any(self, _event: OrderEvent) -> State:
            return State(quantity=self.state.quantity + 1)

    marked = Marked("1", State())
    marked.emit(placed(1))
    marked.emit(SHIPPED)
    assert marked.state.quantity == 2
    with pytest.raises(ConfigurationError, match="@handles"):
        handles()
