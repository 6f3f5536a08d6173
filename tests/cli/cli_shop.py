"""The application that the command line is tried on."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pydantic import BaseModel

from eventstore import (
    ANY,
    BEGINNING,
    Aggregate,
    Application,
    EventTypes,
    Projection,
    ProjectionContext,
    Publisher,
    RecordedEvent,
    Subscription,
    SubscriptionContext,
    every,
)

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
    express: bool = False


@events.register("OrderCursed")
class OrderCursed(BaseModel):
    secret: str


@events.register("OrderWeighed")
class OrderWeighed(BaseModel):
    grams: Decimal


class State(BaseModel):
    status: str = "new"
    lines: dict[str, int] = {}
    carrier: str | None = None


def evolve(state: State, event: OrderPlaced | OrderShipped | OrderCursed) -> State:
    match event:
        case OrderPlaced():
            return state.model_copy(update={"status": "placed", "lines": {**state.lines, event.sku: event.quantity}})
        case OrderShipped():
            return state.model_copy(update={"status": "shipped", "carrier": event.carrier})
        case OrderCursed():
            raise ValueError(event.secret)


class Order(Aggregate[State, OrderPlaced | OrderShipped | OrderCursed], category="order"):
    evolve = staticmethod(evolve)


SALES = "CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL)"

sales = Projection("sales", setup=SALES, categories=["order"])
totals = Projection("totals", setup=SALES, inline=True)
fragile = Projection("fragile", setup=SALES)


@sales.on(OrderPlaced)
@totals.on(OrderPlaced)
async def count(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
    await ctx.connection.execute(
        "INSERT INTO sales VALUES ($1, $2) ON CONFLICT (sku) DO UPDATE SET n = sales.n + excluded.n",
        event.data.sku,
        event.data.quantity,
    )


@fragile.on(OrderPlaced)
async def fail(event: RecordedEvent[OrderPlaced], _: ProjectionContext) -> None:
    raise ValueError(event.data.sku)


mailer = Subscription("mailer", start=BEGINNING, attempts=1)


@mailer.on(OrderPlaced)
async def ship(event: RecordedEvent[OrderPlaced], ctx: SubscriptionContext) -> None:
    if event.data.sku == "curse":
        raise ValueError(event.data.sku)
    await ctx.store.append(f"mail-{event.data.sku}", [OrderShipped(carrier="post")], expected_version=ANY)


def make_app(topic_prefix: str = "", **declared: Any) -> Application:
    return Application(
        "shop",
        events=events,
        aggregates=[Order],
        projections=[sales, totals, fragile],
        publishers=[Publisher("orders", categories=["order"], topic_prefix=topic_prefix, **declared)],
        snapshots={Order: every(3)},
    )


app = make_app()
mailing = Application("shop", events=events, subscriptions=[mailer])
