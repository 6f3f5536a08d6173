"""Dead letters: records that are no events of ours, put aside with the reason, so that the rest can go on.

    header             says
    dead_letter_reason     what is missing or unreadable, never a value
    dead_letter_consumer   the projection that met it
    dead_letter_topic, dead_letter_partition, dead_letter_offset     where it was

Key, value and the record's own headers are as they were. A crash between putting a record aside and moving on puts it
aside again: its place tells that it is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka import AIOKafkaProducer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError, for_code

from eventstore.errors import UnavailableError
from eventstore.kafka.answers import answer, closed, connected

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings

_SETTINGS: Final = {"cleanup.policy": "delete", "retention.ms": "-1"}
_CLUSTER_DEFAULT: Final = -1


class DeadLetter(NamedTuple):
    """A record that is no event, and why."""

    record: ConsumerRecord
    reason: str


class DeadLetters:
    """Writes to the topic of a consumer's dead letters. Made by `opened_dead_letters`."""

    def __init__(self, producer: AIOKafkaProducer, topic: str, consumer: str, answer_within: float) -> None:
        self._producer = producer
        self._topic = topic
        self._consumer = consumer
        self._within = answer_within

    async def put_aside(self, letters: Sequence[DeadLetter]) -> None:
        """Write records to the topic, and return once the broker has them.

        Raises:
            UnavailableError: Kafka failed.
        """
        for letter in letters:
            record = letter.record
            headers = [
                *record.headers,
                ("dead_letter_reason", letter.reason.encode()),
                ("dead_letter_consumer", self._consumer.encode()),
                ("dead_letter_topic", record.topic.encode()),
                ("dead_letter_partition", b"%d" % record.partition),
                ("dead_letter_offset", b"%d" % record.offset),
            ]
            sent = self._producer.send_and_wait(self._topic, record.value, record.key, headers=headers)
            await answer(sent, f"writing to {self._topic!r}", self._within)


@asynccontextmanager
async def opened_dead_letters(
    settings: KafkaSettings, topic: str | None, consumer: str
) -> AsyncIterator[DeadLetters | None]:
    """Open a consumer's dead letters for the length of the block, if it has a topic for them; it is made if need be.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    if topic is None:
        yield None
        return
    await _make(settings, topic)
    producer = AIOKafkaProducer(**settings.client_options(), acks="all", enable_idempotence=True)
    try:
        await connected(producer.start(), settings)
        yield DeadLetters(producer, topic, consumer, settings.answer_within)
    finally:
        await closed(producer.stop())


async def _make(settings: KafkaSettings, topic: str) -> None:
    admin = AIOKafkaAdminClient(**settings.client_options())
    try:
        await connected(admin.start(), settings)
        wanted = NewTopic(topic, 1, 1, topic_configs=_SETTINGS)
        wanted.replication_factor = _CLUSTER_DEFAULT  # its constructor refuses the default
        response = await answer(admin.create_topics([wanted]), f"creating {topic!r}", settings.answer_within)
        for _, code, *_rest in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                raise UnavailableError(f"Kafka failed: {error.__name__} (creating the dead-letter topic {topic!r})")
    finally:
        await closed(admin.close())
