"""Dead letters: records that are no events go to a topic of their own with the reason, or stop what cannot do that."""

from __future__ import annotations

from collections.abc import AsyncIterator

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer

from eventstore import EventStore, Projection, rebuild
from eventstore.errors import ConfigurationError, StreamGapError, TopicConfigurationError
from eventstore.kafka import KafkaProjector
from eventstore.kafka.topics import MAX_MESSAGE_BYTES
from fixtures.kafka_sales import run_to_its_end
from fixtures.kafka_tools import WITHIN, Kafka, fill, publish_all, working
from fixtures.projecting import app_of, clean_fold, rows, sales
from fixtures.stores import open_store


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store."""
    async with open_store(dsn, app_of(sales())) as store:
        yield store


def projector(kafka: Kafka, store: EventStore, projection: Projection) -> KafkaProjector:
    return KafkaProjector(store, projection, kafka.settings, topics=[kafka.orders], publishers=["orders"])


async def project_all(kafka: Kafka, store: EventStore, projection: Projection) -> None:
    """Publish and apply everything that is in the log now, and stop."""
    await publish_all(kafka, store)
    worker = projector(kafka, store, projection)
    async with working(worker):
        await worker.caught_up(within=WITHIN)


async def produce_stranger(kafka: Kafka, size: int) -> None:
    """Write a record of a size that is no event to the topic of orders."""
    options = {**kafka.settings.client_options(), "max_request_size": 2 * MAX_MESSAGE_BYTES}
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(kafka.orders, b"t" * size)


async def test_a_record_that_is_no_event_goes_to_the_dead_letters_with_the_reason(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    letters = f"{kafka.prefix}dead"
    await fill(store, streams=1, events=2)
    await publish_all(kafka, store)
    record, *_ = await kafka.committed(kafka.orders)
    stranger = record
    stranger.headers, stranger.value = (("theirs", b"1"),), b"not ours"
    await kafka.produce(kafka.orders, stranger, stranger)
    await fill(store, streams=3, events=1)

    await project_all(kafka, store, sales(dead_letters=letters))

    assert await rows(connection) == await clean_fold(store)
    found = await kafka.committed(letters)
    assert [one.value for one in found] == [b"not ours"] * 2
    headers = dict(found[0].headers)
    assert headers["theirs"] == b"1"
    assert headers["dead_letter_reason"] == b"the header 'global_position' is missing"
    assert headers["dead_letter_topic"] == kafka.orders.encode()
    assert headers["dead_letter_consumer"] == b"sales@1"
    assert int(dict(found[1].headers)["dead_letter_offset"]) == int(headers["dead_letter_offset"]) + 1


async def test_the_largest_record_that_a_topic_of_ours_accepts_goes_to_the_dead_letters(
    kafka: Kafka, store: EventStore
) -> None:
    letters, large = f"{kafka.prefix}dead", MAX_MESSAGE_BYTES - 1000
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    await produce_stranger(kafka, large)
    await project_all(kafka, store, sales(dead_letters=letters))
    assert [len(one.value) for one in await kafka.committed(letters)] == [large]


async def test_a_record_that_the_dead_letters_cannot_take_stops_it_with_the_reason(
    kafka: Kafka, store: EventStore
) -> None:
    letters = f"{kafka.prefix}dead"
    await kafka.create_topic(letters, 1, max_message_bytes="2000")
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    await produce_stranger(kafka, 5000)
    with pytest.raises(TopicConfigurationError, match="5000 bytes"):
        await run_to_its_end(projector(kafka, store, sales(dead_letters=letters)))


async def test_dead_letters_that_the_broker_refuses_to_make_a_topic_for_stop_it(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    letters = f"{kafka.prefix}dead_letters"
    await kafka.create_topic(letters.replace("_", "."), 1)  # the broker takes the two for one, in its metrics
    with pytest.raises(TopicConfigurationError, match="refuses to create"):
        await run_to_its_end(projector(kafka, store, sales(dead_letters=letters)))


def test_a_name_that_no_topic_can_have_is_refused_when_it_is_declared() -> None:
    for name in ("no topic!", "", ".", "x" * 250):
        with pytest.raises(ConfigurationError, match="dead letters"):
            sales(dead_letters=name)


async def test_a_stream_does_not_go_on_without_an_event_that_was_spoilt_on_its_way(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    letters, spoilt = f"{kafka.prefix}dead", f"{kafka.prefix}spoilt"
    await fill(store, streams=1, events=3)
    await publish_all(kafka, store)
    first, second, third = await kafka.committed(kafka.orders)
    second.value = b"\xff\xfe"
    await kafka.create_topic(spoilt)
    await kafka.produce(spoilt, first, second, third)

    with pytest.raises(StreamGapError, match="version 3 of 'order-0', but version 2 has not come"):
        await KafkaProjector(store, sales(dead_letters=letters), kafka.settings, topics=[spoilt]).run()

    assert await rows(connection) == {}
    await rebuild(store, sales())
    assert await rows(connection) == await clean_fold(store)
