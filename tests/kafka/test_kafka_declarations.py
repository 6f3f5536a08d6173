"""Declaring a publisher and the way to Kafka: refused early, with what to write instead, and without a secret."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from eventstore import Publisher
from eventstore.errors import ConfigurationError
from eventstore.kafka import KafkaProjector, KafkaSettings
from fixtures.shop import app


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


def test_neither_user_nor_password_is_shown() -> None:
    settings = KafkaSettings("broker:9092", sasl_username="alice", sasl_password="s3cret")  # noqa: S106 - that it is
    assert "s3cret" not in repr(settings)
    assert "alice" not in repr(settings)


def test_an_address_with_a_user_is_refused_without_showing_it() -> None:
    with pytest.raises(ConfigurationError) as refused:
        KafkaSettings("alice:s3cret@broker:9092")
    assert "s3cret" not in str(refused.value)


def test_secured_protocols_check_certificates_unless_told_otherwise() -> None:
    assert KafkaSettings("broker:9093", security_protocol="SSL").client_options()["ssl_context"].check_hostname


@pytest.mark.parametrize(
    "arguments",
    [{"security_protocol": "TLS"}, {"answer_within": 0.0}, {"answer_within": 20.0, "transaction_timeout": 15.0}],
)
def test_settings_that_cannot_work_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        KafkaSettings("broker:9092", **arguments)


def test_a_projector_without_topics_is_refused() -> None:
    from eventstore.projections import Projection  # noqa: PLC0415
    from eventstore.testing import memory_store  # noqa: PLC0415

    with pytest.raises(ConfigurationError, match="topic"):
        KafkaProjector(memory_store(app), Projection("sales", tables=["sales"]), KafkaSettings("b:1"), topics=[])
