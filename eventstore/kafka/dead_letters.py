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
from aiokafka.errors import MessageSizeTooLargeError

from eventstore.errors import TopicConfigurationError
from eventstore.kafka.answers import answer, closed, connected
from eventstore.kafka.topics import opened_topics

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings

_MAX_REQUEST: Final = 64 * 1024 * 1024
"""Above what any topic is likely to accept, so that the topic decides: what was in Kafka once fits into a request."""


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
            TopicConfigurationError: A record is larger than the topic accepts.
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
            await answer(self._send(record, headers), f"writing to {self._topic!r}", self._within)

    async def _send(self, record: ConsumerRecord, headers: Sequence[tuple[str, bytes]]) -> None:
        try:
            await self._producer.send_and_wait(self._topic, record.value, record.key, headers=headers)
        except MessageSizeTooLargeError:
            size = len(record.value or b"") + len(record.key or b"")
            raise TopicConfigurationError(
                self._topic,
                f"it does not accept the record at offset {record.offset} of partition {record.partition} of "
                f"{record.topic!r}, {size} bytes without its headers: raise max.message.bytes",
            ) from None


@asynccontextmanager
async def opened_dead_letters(
    settings: KafkaSettings, topic: str | None, consumer: str
) -> AsyncIterator[DeadLetters | None]:
    """Open a consumer's dead letters for the length of the block, if it has a topic for them; it is made if need be.

    Raises:
        TopicConfigurationError: The broker refuses to make the topic.
        UnavailableError: Kafka cannot be reached.
    """
    if topic is None:
        yield None
        return
    async with opened_topics(settings) as topics:
        await topics.for_dead_letters(topic)
    producer = AIOKafkaProducer(
        **settings.client_options(), acks="all", enable_idempotence=True, max_request_size=_MAX_REQUEST
    )
    try:
        await connected(producer.start(), settings)
        yield DeadLetters(producer, topic, consumer, settings.answer_within)
    finally:
        await closed(producer.stop())
