"""Declaring a publisher and the way to Kafka: refused early, with what to write instead, and without a secret."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest

from eventstore import Application, Projection, ProjectionContext, Publisher, RecordedEvent
from eventstore.errors import ConfigurationError
from eventstore.kafka import KafkaProjector, KafkaSettings
from eventstore.projections import ProjectionWorker
from eventstore.runtime.workers import Workers
from eventstore.testing import memory_store
from fixtures.shop import Order, OrderPlaced, app, events


def test_a_category_goes_to_the_topic_of_its_name() -> None:
    assert Publisher("orders", categories=["order", "note"]).topics() == ("order", "note")


def test_a_prefix_stands_before_every_topic_the_one_of_the_cursor_included() -> None:
    publisher = Publisher("orders", categories=["order"], topic_prefix="shop.")
    assert publisher.topics() == ("shop.order",)
    assert publisher.cursor_topic == "shop.publisher-orders-cursor"


def test_one_topic_can_take_all_categories() -> None:
    publisher = Publisher("orders", topic="everything")
    assert publisher.topics() == ("everything",)
    assert publisher.topic_of("order") == publisher.topic_of("note") == "everything"


def test_a_function_can_name_topics() -> None:
    assert Publisher("orders", categories=["order"], topic=lambda name: f"{name}-events").topics() == ("order-events",)


def test_without_categories_topics_are_known_as_events_come() -> None:
    assert Publisher("orders").topics() == ()
    assert Publisher("orders").topic_of("order") == "order"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"name": ""}, "name"),
        ({"name": "two words"}, "name"),
        ({"categories": "order"}, r"\['order'\]"),
        ({"categories": []}, "no categories"),
        ({"categories": ["order-1"]}, "not a category"),
        ({"categories": ["o/r"]}, "not a category"),
        ({"categories": ["ördér"]}, "topic="),
        ({"topic": "a b"}, "topic="),
        ({"topic": "publisher-orders-cursor"}, "cursor"),
        ({"partitions": 0}, "partitions"),
        ({"batch": 0}, "batch"),
        ({"replication_factor": 0}, "replication_factor"),
        ({"retention": timedelta()}, "retention"),
    ],
)
def test_a_declaration_that_cannot_work_is_refused_when_it_is_made(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        Publisher(**{"name": "orders", **arguments})


@pytest.mark.parametrize(
    "publishers",
    [
        [Publisher("one", categories=["order"]), Publisher("two", categories=["note", "order"], topic="all")],
        [Publisher("one", categories=["order"], topic="orders"), Publisher("two")],
        [Publisher("one"), Publisher("two", topic_prefix="shop.")],
    ],
    ids=["both name it", "one publishes everything", "both publish everything"],
)
def test_publishers_that_send_a_category_to_different_topics_are_refused(publishers: list[Publisher]) -> None:
    with pytest.raises(ConfigurationError, match=r"different topics: '.*' \(by 'one'\), '.*' \(by 'two'\)"):
        Application("shop", events=events, publishers=publishers)
    with pytest.raises(ConfigurationError, match="category 'order'"):
        Application("shop", events=events, aggregates=[Order], publishers=publishers)


def test_publishers_that_share_a_topic_or_no_category_are_welcome() -> None:
    shared = [Publisher("one", categories=["order"], topic="all"), Publisher("two", topic="all")]
    apart = [Publisher("one", categories=["order"]), Publisher("two", categories=["note"], topic_prefix="shop.")]
    for publishers in (shared, apart):
        assert Application("shop", events=events, aggregates=[Order], publishers=publishers).publishers


def worker(*publishers: Publisher, categories: Sequence[str] | None = None, from_kafka: bool = False) -> object:
    """Return the worker of a projection in a shop with publishers and brokers."""
    sales = Projection("sales", tables=["sales"], categories=categories)

    @sales.on(OrderPlaced)
    async def _count(_event: RecordedEvent[Any], _ctx: ProjectionContext) -> None: ...

    shop = Application("shop", events=events, aggregates=[Order], projections=[sales], publishers=publishers)
    return Workers(shop, memory_store(shop), ["sales"], kafka="broker:9092", from_kafka=from_kafka)["sales"]


def test_a_projection_is_not_fed_by_a_publisher_whose_topics_nobody_knows_yet() -> None:
    """It would miss the events of each category that is not named, without a word."""
    for publishers in ([Publisher("all")], [Publisher("orders", categories=["order"]), Publisher("all")]):
        with pytest.raises(ConfigurationError, match=r"Publisher\('all', categories=\['order'\]\)"):
            worker(*publishers)
    assert isinstance(worker(Publisher("all", topic="everything")), KafkaProjector)
    assert isinstance(worker(Publisher("all"), categories=["order"]), KafkaProjector)  # the projection says which


def test_a_projection_is_fed_from_kafka_only_if_all_of_its_categories_are_published() -> None:
    notes, orders = Publisher("notes", categories=["note"]), Publisher("orders", categories=["order"])
    assert isinstance(worker(orders, categories=["order"]), KafkaProjector)
    assert isinstance(worker(orders, notes, categories=["order", "note"]), KafkaProjector)
    assert isinstance(worker(notes, categories=["order"]), ProjectionWorker)
    assert isinstance(worker(notes, categories=["order", "note"]), ProjectionWorker)
    assert isinstance(worker(categories=["order"]), ProjectionWorker)


def test_a_projection_of_all_categories_is_fed_from_kafka_only_by_a_publisher_of_all() -> None:
    """Any stream may have events of any model, whatever aggregates declare: what is not published would not come."""
    assert isinstance(worker(Publisher("orders", categories=["order"])), ProjectionWorker)
    assert isinstance(worker(Publisher("all", topic="everything")), KafkaProjector)


def test_what_must_be_fed_from_kafka_and_cannot_be_is_refused_with_what_to_write() -> None:
    with pytest.raises(ConfigurationError, match=r"Projection\('sales', categories=\[\.\.\.\]\)"):
        worker(Publisher("orders", categories=["order"]), from_kafka=True)
    assert isinstance(worker(Publisher("orders", categories=["order"]), categories=["order"]), KafkaProjector)


def test_neither_user_nor_password_is_shown() -> None:
    settings = KafkaSettings("broker:9092", sasl_username="alice", sasl_password="s3cret")  # noqa: S106 - that it is
    assert "s3cret" not in repr(settings)
    assert "alice" not in repr(settings)


def test_an_address_with_a_user_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        KafkaSettings("alice:s3cret@broker:9092")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    "address",
    ["", "garbage", "broker:", "broker:port", "broker:0", "broker:70000", ":9092", "a:1,b", "a:1,", "k://a:1"],
)
def test_an_address_that_is_not_host_and_port_is_refused_up_front(address: str) -> None:
    with pytest.raises(ConfigurationError, match=r"host:port\[,host:port\], with the port"):
        KafkaSettings(address)


def test_several_brokers_may_be_written_with_spaces() -> None:
    assert KafkaSettings("a:1, [::1]:2").client_options()["bootstrap_servers"] == ["a:1", "[::1]:2"]


def test_secured_protocols_check_certificates_unless_told_otherwise() -> None:
    assert KafkaSettings("broker:9093", security_protocol="SSL").client_options()["ssl_context"].check_hostname


@pytest.mark.parametrize(
    "arguments",
    [
        {"security_protocol": "TLS"},
        {"answer_within": "5"},
        {"answer_within": 0.0},
        {"answer_within": 20.0, "transaction_timeout": 15.0},
    ],
)
def test_settings_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        KafkaSettings("broker:9092", **arguments)


def test_a_projector_without_topics_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="topic"):
        KafkaProjector(memory_store(app), Projection("sales", tables=["sales"]), KafkaSettings("b:1"), topics=[])
