"""What a publisher refuses to go on with: it ends with an error that says why and what to do, and skips nothing."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from eventstore import EventStore
from eventstore.errors import (
    ConfigurationError,
    LogMismatchError,
    MessageTooLargeError,
    MissingTopicError,
    TopicConfigurationError,
)
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.topics import MAX_MESSAGE_BYTES, opened_topics
from eventstore.streams import ANY
from eventstore.subscriptions import Checkpoint, Checkpoints
from fixtures.kafka_tools import WITHIN, Kafka, fill, is_whole, lose_last_event, publish_all, working
from fixtures.shop import placed


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    """Run a publisher that is expected to end by itself."""
    async with asyncio.timeout(WITHIN):
        await publisher.run()


# --- topics ----------------------------------------------------------------------------------------------------------


async def test_a_topic_is_made_to_keep_events_for_ever_and_whole(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    async with opened_topics(kafka.settings) as topics:
        topic = await topics.find(kafka.orders)
        cursor = await topics.find(kafka.declaration().cursor_topic)
    assert topic is not None
    assert topic.partitions == 3
    assert topic.settings["retention.ms"] == "-1"
    assert topic.settings["cleanup.policy"] == "delete"
    assert cursor is not None
    assert cursor.partitions == 1
    assert cursor.settings["cleanup.policy"] == "compact"
    for setting in ("max.message.bytes", "segment.bytes"):
        assert cursor.settings[setting] == str(MAX_MESSAGE_BYTES)


async def test_a_topic_keeps_events_as_long_as_it_is_told(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store, retention=timedelta(days=30))
    async with opened_topics(kafka.settings) as topics:
        topic = await topics.find(kafka.orders)
    assert topic is not None
    assert topic.settings["retention.ms"] == str(30 * 24 * 3600 * 1000)


async def test_a_missing_topic_is_an_error_when_it_may_not_be_made(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store, create_topics=False)
    with pytest.raises(MissingTopicError, match=kafka.orders):
        await run_to_its_end(publisher)
    await kafka.create_topic(kafka.orders, retention_ms="-1")
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store, create_topics=False)
    assert is_whole(await kafka.events(kafka.orders), streams=3, versions=2)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"cleanup_policy": "compact"}, "cleanup.policy=delete"),
        ({"cleanup_policy": "compact,delete", "retention_ms": "-1"}, "cleanup.policy=delete"),
        ({"retention_ms": "604800000"}, "retention.ms=-1"),
        ({"retention_ms": "-1", "retention_bytes": "1000000"}, "retention.bytes=-1"),
    ],
)
async def test_a_topic_that_would_lose_events_is_refused(
    kafka: Kafka, store: EventStore, settings: dict[str, Any], said: str
) -> None:
    await kafka.create_topic(kafka.orders, **settings)
    with pytest.raises(TopicConfigurationError, match=said):
        await run_to_its_end(kafka.publisher(store))


async def test_a_transaction_longer_than_the_broker_allows_is_refused(kafka: Kafka, store: EventStore) -> None:
    day = replace(kafka, settings=replace(kafka.settings, transaction_timeout=86_400.0))
    with pytest.raises(ConfigurationError, match="transaction_timeout must be no more than"):
        await run_to_its_end(day.publisher(store))


async def test_a_shorter_retention_than_declared_is_refused(kafka: Kafka, store: EventStore) -> None:
    await kafka.create_topic(kafka.orders, retention_ms="1000")
    with pytest.raises(TopicConfigurationError, match="86400000"):
        await run_to_its_end(kafka.publisher(store, retention=timedelta(days=1)))


@pytest.mark.parametrize(
    ("partitions", "settings", "said"),
    [
        (2, {"cleanup_policy": "compact"}, "one partition"),
        (1, {"cleanup_policy": "delete"}, "'compact'"),
        (1, {"cleanup_policy": "compact", "max_message_bytes": "1048588"}, "max.message.bytes=2097152"),
        (
            1,
            {"cleanup_policy": "compact", "max_message_bytes": "2097152", "segment_bytes": "1048576"},
            "segment.bytes=",
        ),
    ],
)
async def test_a_topic_that_would_lose_the_cursor_is_refused(
    kafka: Kafka, store: EventStore, partitions: int, settings: dict[str, str], said: str
) -> None:
    await kafka.create_topic(kafka.declaration().cursor_topic, partitions, **settings)
    with pytest.raises(TopicConfigurationError, match=said):
        await run_to_its_end(kafka.publisher(store))


LARGE_ENOUGH = {"cleanup_policy": "compact", "max_message_bytes": str(MAX_MESSAGE_BYTES)}
CLEANED_SOON = {
    "segment_bytes": str(MAX_MESSAGE_BYTES),
    "segment_ms": "60000",
    "delete_retention_ms": "1000",
    "min_cleanable_dirty_ratio": "0.01",
}
"""What the first version has made cursor topics with, but for their size; it was said then what that must be."""


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {},
            "set segment.bytes=2097152, segment.ms=60000, delete.retention.ms=1000, min.cleanable.dirty.ratio=0.01$",
        ),
        (
            {**CLEANED_SOON, "segment_bytes": str(1024**3)},
            r"\(segment.bytes=1073741824\).*: set segment.bytes=2097152$",
        ),
        ({**CLEANED_SOON, "segment_ms": "604800000"}, "set segment.ms=60000$"),
        ({**CLEANED_SOON, "delete_retention_ms": "86400000"}, "set delete.retention.ms=1000$"),
        ({**CLEANED_SOON, "min_cleanable_dirty_ratio": "0.5"}, "set min.cleanable.dirty.ratio=0.01$"),
    ],
)
async def test_a_topic_of_the_cursor_that_is_cleaned_too_seldom_is_refused(
    kafka: Kafka, store: EventStore, settings: dict[str, str], said: str
) -> None:
    topic = kafka.declaration().cursor_topic
    await kafka.create_topic(topic, 1, **LARGE_ENOUGH, **settings)
    with pytest.raises(TopicConfigurationError, match=said):
        await run_to_its_end(kafka.publisher(store))


@pytest.mark.parametrize("times", [1, 10])
async def test_a_topic_of_the_cursor_need_not_be_exactly_as_we_make_it(
    kafka: Kafka, store: EventStore, times: int
) -> None:
    settings = {name: f"{float(value) * times:g}" for name, value in CLEANED_SOON.items()}
    settings["segment_bytes"] = str(MAX_MESSAGE_BYTES * times)
    await kafka.create_topic(kafka.declaration().cursor_topic, 1, **LARGE_ENOUGH, **settings)
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=1)


async def test_a_refused_topic_of_the_cursor_passes_once_it_is_set_as_it_was_said(
    kafka: Kafka, store: EventStore
) -> None:
    topic = kafka.declaration().cursor_topic
    await kafka.create_topic(topic, 1, **LARGE_ENOUGH)
    await fill(store, streams=1, events=1)
    with pytest.raises(TopicConfigurationError) as refused:
        await run_to_its_end(kafka.publisher(store))
    told = dict(setting.split("=") for setting in str(refused.value).rpartition(": set ")[2].split(", "))
    await kafka.set_topic(topic, **LARGE_ENOUGH, **{name.replace(".", "_"): value for name, value in told.items()})
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=1)


async def test_more_partitions_than_before_are_refused(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=1)
    await publish_all(kafka, store)
    await kafka.add_partitions(kafka.orders, 5)
    with pytest.raises(TopicConfigurationError, match="5 partitions, but had 3"):
        await run_to_its_end(kafka.publisher(store))


async def test_a_topic_that_is_gone_is_not_made_anew_in_silence(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=1)
    await publish_all(kafka, store)
    await kafka.delete_topic(kafka.orders)
    with pytest.raises(LogMismatchError, match="gone"):
        await run_to_its_end(kafka.publisher(store))


async def test_a_category_that_cannot_name_a_topic_stops_the_publisher_that_meets_it(
    kafka: Kafka, store: EventStore
) -> None:
    await store.append("bücher-1", [placed()], expected_version=ANY)
    with pytest.raises(ConfigurationError, match="topic="):
        await run_to_its_end(kafka.publisher(store, categories=None))


# --- messages --------------------------------------------------------------------------------------------------------


async def test_an_event_that_is_too_large_stops_before_it_and_goes_on_once_it_fits(
    kafka: Kafka, store: EventStore
) -> None:
    await kafka.create_topic(kafka.orders, retention_ms="-1", max_message_bytes="2000")
    for size in (10, 10, 5000, 10):
        await store.append("order-1", [placed(sku="t" * size)], expected_version=ANY)
    with pytest.raises(MessageTooLargeError) as refused:
        await run_to_its_end(kafka.publisher(store))
    error = refused.value
    assert (error.topic, error.stream_id, error.stream_version) == (kafka.orders, "order-1", 3)
    assert error.limit == 2000
    assert error.size > 5000
    assert f"max.message.bytes={error.size}" in str(error)
    assert "max_request_size" not in str(error)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=2)
    await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes=str(error.size))
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=4)


async def test_what_the_broker_refuses_is_not_lost_with_a_commit_that_succeeds(kafka: Kafka, store: EventStore) -> None:
    """The topic accepts less than it did when the publisher looked: the broker refuses a batch in mid-transaction."""
    publisher = kafka.publisher(store)
    async with working(publisher) as (task,):
        await publisher.progress.until(lambda: publisher.progress.state == "working")
        await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes="2000")
        await store.append("order-1", [placed(sku="t" * 5000)], expected_version=ANY)
        async with asyncio.timeout(WITHIN):
            await asyncio.wait({task})
        with pytest.raises(MessageTooLargeError):
            task.result()
    assert await kafka.events(kafka.orders) == []
    await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes="20000")
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=1)


async def test_many_small_events_fit_a_topic_that_takes_small_batches(kafka: Kafka, store: EventStore) -> None:
    await kafka.create_topic(kafka.orders, 1, retention_ms="-1", max_message_bytes="2000")
    await fill(store, streams=2, events=20)
    await publish_all(kafka, store, partitions=1)
    assert is_whole(await kafka.events(kafka.orders), streams=2, versions=20)


async def test_the_largest_event_of_a_store_fits_a_topic_of_our_own(kafka: Kafka, store: EventStore) -> None:
    await store.append("order-1", [placed(sku="t" * (1024 * 1024 - 100))], expected_version=ANY)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=1)


# --- what was there before -------------------------------------------------------------------------------------------


async def test_a_mirror_ahead_of_the_cursor_means_that_kafka_has_lost_records(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=2)
    await publish_all(kafka, store)
    await kafka.delete_topic(kafka.declaration().cursor_topic)
    with pytest.raises(LogMismatchError, match="Kafka has lost"):
        await run_to_its_end(kafka.publisher(store))
    assert is_whole(await kafka.events(kafka.orders), streams=2, versions=2)


async def test_a_mirror_of_another_event_is_refused(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=2)
    await publish_all(kafka, store)
    checkpoints = Checkpoints(store.database)
    mirror = await checkpoints.load("publisher:orders")
    await checkpoints.reset("publisher:orders", Checkpoint(mirror.position, uuid4(), mirror.epoch))
    with pytest.raises(LogMismatchError, match="another event"):
        await run_to_its_end(kafka.publisher(store))


async def test_a_log_that_lost_its_tail_is_refused(kafka: Kafka, store: EventStore) -> None:
    """As after a failover to a replica that was behind."""
    await fill(store, streams=2, events=2)
    await publish_all(kafka, store)
    await lose_last_event(store)
    with pytest.raises(LogMismatchError, match="has not that event"):
        await run_to_its_end(kafka.publisher(store))


async def test_a_lost_mirror_alone_is_no_reason_to_stop(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=2)
    await publish_all(kafka, store)
    await Checkpoints(store.database).delete("publisher:orders")
    await fill(store, streams=2, events=1)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=2, versions=3)
    assert (await Checkpoints(store.database).load("publisher:orders")).position > 0


async def test_whoever_waits_hears_what_stopped_it(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store, create_topics=False)
    nobody: Any = asyncio.create_task(publisher.progress.until(lambda: False))
    with pytest.raises(MissingTopicError):
        await run_to_its_end(publisher)
    with pytest.raises(MissingTopicError):
        await nobody
