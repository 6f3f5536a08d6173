"""How far the read models that Kafka feeds are behind their topics, asked of the brokers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventstore.errors import ConfigurationError, UnavailableError
from eventstore.kafka.answers import answer, closed, connected

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstore.db import Session
    from eventstore.kafka.settings import KafkaSettings


class KafkaLag(NamedTuple):
    """How far a consumer is behind a topic.

    Attributes:
        consumer: The read model, `name@version`.
        topic: The topic.
        offsets: How many offsets lie between its places and the ends; 0 at rest. None when the topic cannot be asked.
    """

    consumer: str
    topic: str
    offsets: int | None


async def kafka_lags(settings: KafkaSettings, session: Session) -> list[KafkaLag]:
    """Return how far all read models that Kafka feeds are behind, by topic.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    places: dict[tuple[str, str], dict[TopicPartition, int]] = {}
    for consumer, topic, partition, offset in await session.fetch("list_kafka_offsets"):
        places.setdefault((consumer, topic), {})[TopicPartition(topic, partition)] = offset
    if not places:
        return []
    asking = AIOKafkaConsumer(**settings.client_options(), isolation_level="read_committed", enable_auto_commit=False)
    try:
        await connected(asking.start(), settings)
        ends: dict[str, Mapping[TopicPartition, int] | None] = {}
        for (_, topic), partitions in places.items():
            if topic not in ends:
                ends[topic] = await _ends(asking, partitions, settings.answer_within)
        return [
            KafkaLag(consumer, topic, _behind(partitions, ends[topic]))
            for (consumer, topic), partitions in places.items()
        ]
    finally:
        await closed(asking.stop())


async def _ends(
    asking: AIOKafkaConsumer, partitions: Mapping[TopicPartition, int], within: float
) -> Mapping[TopicPartition, int] | None:
    try:
        found: Mapping[TopicPartition, int] = await answer(
            asking.end_offsets(list(partitions)), "asking for ends", within
        )
    except (UnavailableError, ConfigurationError):
        return None  # it is gone, for example, or not ours to ask
    return found


def _behind(partitions: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int] | None) -> int | None:
    if ends is None:
        return None
    return sum(max(0, ends[partition] - offset) for partition, offset in partitions.items() if partition in ends)
