"""Routes: by category, by type, by function; streams stay in order within a topic, and what is no topic is refused."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import (
    Application,
    EventStore,
    Projection,
    ProjectionContext,
    Publisher,
    RecordedEvent,
    by_function,
    by_type,
)
from eventstore.errors import ConfigurationError, UnroutableEventError
from eventstore.outbox import Route
from eventstore.projections import ProjectionWorker
from eventstore.runtime.workers import Workers
from eventstore.streams import ANY
from eventstore.testing import memory_store
from fixtures.kafka_tools import Kafka, publish_all
from fixtures.shop import SHIPPED, Order, OrderPlaced, events, placed


async def fill(store: EventStore) -> None:
    for number in range(6):
        for event in (placed(), SHIPPED, placed(), SHIPPED):
            await store.append(f"order-{number}", [event], expected_version=ANY)


async def test_each_type_can_have_a_topic_in_which_streams_are_in_order(kafka: Kafka, store: EventStore) -> None:
    await fill(store)
    await publish_all(kafka, store, topic=by_type({"OrderPlaced": "placed"}))
    for topic, event_type, versions in (("placed", "OrderPlaced", [1, 3]), ("OrderShipped", "OrderShipped", [2, 4])):
        arrived = await kafka.events(f"{kafka.prefix}{topic}")
        assert {event.event_type for event in arrived} == {event_type}
        for number in range(6):
            assert [e.stream_version for e in arrived if e.stream_id == f"order-{number}"] == versions


async def test_a_function_can_decide_by_category_and_type(kafka: Kafka, store: EventStore) -> None:
    asked: list[Route] = []

    def to(route: Route) -> str:
        asked.append(route)
        return f"{route.category}.{'shipping' if route.event_type == 'OrderShipped' else 'sales'}"

    await fill(store)
    await publish_all(kafka, store, topic=by_function(to, topics=["order.sales", "order.shipping"]))
    assert len(await kafka.events(f"{kafka.prefix}order.sales")) == 12
    assert len(await kafka.events(f"{kafka.prefix}order.shipping")) == 12
    assert set(asked) == {Route("order", "OrderPlaced"), Route("order", "OrderShipped")}
    assert len(asked) == 12  # once for each stream and type


async def test_publishers_stand_side_by_side_each_with_its_own_cursor(kafka: Kafka, store: EventStore) -> None:
    await fill(store)
    await publish_all(kafka, store)
    await publish_all(kafka, store, name="types", topic=by_type({}))
    await fill(store)
    await publish_all(kafka, store, name="types", topic=by_type({}))
    assert len(await kafka.events(kafka.orders)) == 24
    assert len(await kafka.events(f"{kafka.prefix}OrderPlaced")) == 24
    await publish_all(kafka, store)
    assert len(await kafka.events(kafka.orders)) == 48


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (by_type({"OrderPlaced": "no topic"}), "no topic"),
        (by_function(lambda _: "x", topics=["b a d"]), "b a d"),
        (by_type({"OrderPlaced": "publisher-orders-cursor-1of2"}), "cursor"),
        (by_type({"OrderPlaced": ""}), "1 to 249"),
    ],
)
def test_a_route_to_what_cannot_be_a_topic_is_refused_when_it_is_declared(topic: Any, said: str) -> None:
    with pytest.raises(UnroutableEventError, match=said):
        Publisher("orders", topic=topic)


@pytest.mark.parametrize("returned", ["ü", "", None, 7, "a" * 250])
def test_a_function_that_returns_what_cannot_be_a_topic_is_refused(returned: Any) -> None:
    with pytest.raises(UnroutableEventError):
        Publisher("orders", topic=by_function(lambda _: returned)).topic_of("order", "OrderPlaced")


def test_a_function_that_fails_says_nothing_of_what_it_was_about() -> None:
    def fails(_: Route) -> str:
        raise ValueError("s3cret")

    with pytest.raises(UnroutableEventError, match="ValueError") as refused:
        Publisher("orders", topic=by_function(fails)).topic_of("order", "OrderPlaced")
    assert "s3cret" not in str(refused.value)


def test_a_publisher_by_types_may_stand_beside_one_of_whole_streams_but_not_in_its_topics() -> None:
    whole = Publisher("orders", categories=["order"])
    apart = Publisher("types", categories=["order"], topic=by_type({"OrderPlaced": "placed"}))
    assert Application("shop", events=events, aggregates=[Order], publishers=[whole, apart]).publishers
    mixed = Publisher("types", categories=["order"], topic=by_type({"OrderPlaced": "order"}))
    with pytest.raises(ConfigurationError, match="topic_prefix"):
        Application("shop", events=events, aggregates=[Order], publishers=[whole, mixed])


def test_a_projection_is_never_fed_from_topics_over_which_streams_are_split() -> None:
    sales = Projection("sales", tables=["sales"])

    @sales.on(OrderPlaced)
    async def _count(_event: RecordedEvent[Any], _ctx: ProjectionContext) -> None: ...

    split = Publisher("types", categories=["order"], topic=by_type())
    shop = Application("shop", events=events, aggregates=[Order], projections=[sales], publishers=[split])
    worker = Workers(shop, memory_store(shop), ["sales"], kafka="broker:9092")["sales"]
    assert isinstance(worker, ProjectionWorker)
