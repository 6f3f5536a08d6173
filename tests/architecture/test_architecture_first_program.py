"""The first program of a user: declared in one module, run on the store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Literal, assert_never

import pytest
from pydantic import BaseModel

from eventstore import (
    NO_STREAM,
    Aggregate,
    Application,
    Decider,
    EventTypes,
    NewEvent,
    Projection,
    ProjectionContext,
    Publisher,
    RecordedEvent,
    every,
)
from eventstore.testing import given, memory_store

events = EventTypes()


@events.register("OrderPlaced", version=2)
class OrderPlaced(BaseModel):
    sku: str
    quantity: int


@events.upcaster("OrderPlaced", from_version=1)
def _(data: dict[str, Any]) -> dict[str, Any]:
    return data | {"quantity": 1}


@events.register("OrderShipped")
class OrderShipped(BaseModel):
    carrier: str


OrderEvent = OrderPlaced | OrderShipped


class NotPlacedError(Exception):
    """An order was shipped that is not placed."""


class State(BaseModel):
    status: Literal["new", "placed", "shipped"] = "new"


class PlaceOrder(BaseModel):
    sku: str


def evolve(_state: State, event: OrderEvent) -> State:
    match event:
        case OrderPlaced():
            return State(status="placed")
        case OrderShipped():
            return State(status="shipped")
        case _:
            assert_never(event)


class Order(Aggregate[State, OrderEvent], category="order"):
    evolve = staticmethod(evolve)

    def ship(self, carrier: str) -> None:
        if self.state.status != "placed":
            raise NotPlacedError(self.key)
        self.emit(OrderShipped(carrier=carrier))


def decide(command: PlaceOrder, state: State) -> Sequence[OrderEvent]:
    return [OrderPlaced(sku=command.sku, quantity=1)] if state.status == "new" else []


order = Decider(category="order", events=OrderEvent, initial=State, decide=decide, evolve=evolve)
sales = Projection("sales", version=1, setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL)")


@sales.on(OrderPlaced)
async def count(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
    await ctx.connection.execute("INSERT INTO sales VALUES ($1, $2)", event.data.sku, event.data.quantity)


app = Application(
    "shop",
    events=events,
    aggregates=[Order],
    projections=[sales],
    snapshots={Order: every(100)},
    publishers=[Publisher("orders", categories=["order"])],
)


async def test_it_works_from_end_to_end() -> None:
    store = memory_store(app)
    orders = store.repository(Order)
    placed = NewEvent(OrderPlaced(sku="tea", quantity=2), occurred_at=datetime(2024, 5, 1, tzinfo=UTC))
    await store.append("order-42", [placed], expected_version=NO_STREAM)
    loaded = await orders.load("42")
    loaded.ship("dhl")
    async with store.transaction() as tx:
        await orders.save(loaded, tx=tx)

    found = [(event.stream_version, event.data) async for event in store.read_stream("order-42", of=OrderEvent)]
    assert found == [(1, OrderPlaced(sku="tea", quantity=2)), (2, OrderShipped(carrier="dhl"))]
    with pytest.raises(NotPlacedError):
        await orders.execute("42", lambda one: one.ship("dhl"))


async def test_a_command_that_is_sent_again_is_done_once() -> None:
    store = memory_store(app)
    await store.append("order-1", [OrderPlaced(sku="tea", quantity=1)], expected_version=NO_STREAM)
    orders = store.repository(Order)

    first = await orders.execute("1", lambda one: one.ship("dhl"), command_id="c1")
    again = await orders.execute("1", lambda one: one.ship("dhl"), command_id="c1")

    assert (first.stream_version, first.position) == (again.stream_version, again.position)


async def test_the_functional_style_does_the_same() -> None:
    store = memory_store(app)

    done = await store.repository(order).execute("1", PlaceOrder(sku="tea"))

    assert done.stream_version == 1
    assert [event.data async for event in store.read_stream("order-1")] == [OrderPlaced(sku="tea", quantity=1)]


def test_ships_what_was_placed() -> None:
    given(Order, OrderPlaced(sku="tea", quantity=1)).when(lambda one: one.ship("dhl")).then(OrderShipped(carrier="dhl"))
    given(order).when(PlaceOrder(sku="tea")).then(OrderPlaced(sku="tea", quantity=1))
