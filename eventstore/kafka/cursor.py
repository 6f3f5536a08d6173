"""The cursor: how far a publisher has come, written in the very transaction that carries the records.

It is the last record of a topic of its own, and the only truth about what was published. A start asks for it after the
producer has fenced everybody else, so that nothing can be added behind its back: it takes the topic's high watermark
and reads up to there, from near the end and then from further back in growing steps.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventstore.errors import HangingTransactionError, LogMismatchError
from eventstore.kafka.answers import answer, closed, connected
from eventstore.subscriptions import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstore.kafka.settings import KafkaSettings

FORMAT: Final = 1
"""The cursor record's format; a newer one is refused."""

BROKER_SCAN: Final = 10.0
"""Seconds between two scans of the broker for transactions that have timed out (its default)."""

_FIRST_STEP: Final = 200
_STEP_FACTOR: Final = 10
_POLL_MS: Final = 100


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a publisher has come.

    Attributes:
        checkpoint: The last event of the log that was looked at, with the epoch that published it.
        partitions: How many partitions each topic had: streams keep their partitions only as long as that stays.
    """

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    partitions: Mapping[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return the cursor as its record's value."""
        return json.dumps(
            {
                "format": FORMAT,
                "position": self.checkpoint.position,
                "event_id": str(self.checkpoint.event_id),
                "epoch": self.checkpoint.epoch,
                "partitions": dict(self.partitions),
            }
        ).encode()

    @staticmethod
    def decode(name: str, value: bytes) -> Cursor:
        """Read a cursor record's value.

        Raises:
            LogMismatchError: It is none, or newer code than this wrote it.
        """
        try:
            written: Any = json.loads(value)
            if written["format"] != FORMAT:
                raise LogMismatchError(name, f"its cursor has format {written['format']}, this code knows {FORMAT}")
            checkpoint = Checkpoint(written["position"], UUID(written["event_id"]), written["epoch"])
            return Cursor(checkpoint, dict(written["partitions"]))
        except (ValueError, KeyError, TypeError):
            raise LogMismatchError(
                name, "the last record of its cursor topic is no cursor: somebody else writes to it"
            ) from None


async def read_cursor(settings: KafkaSettings, name: str, topic: str) -> Cursor:
    """Return the last committed cursor of a topic; the start of the log when there is none.

    Raises:
        HangingTransactionError: An open transaction hides the end of the topic for longer than the broker allows.
        LogMismatchError: The last record is no cursor.
        UnavailableError: Kafka does not answer.
    """
    partition = TopicPartition(topic, 0)
    first, end = await _bounds(settings, partition)
    longest = settings.transaction_timeout + BROKER_SCAN
    async with _reader(settings, "read_committed") as consumer:
        try:
            async with asyncio.timeout(longest):
                value = await _last_value(consumer, partition, first, end, settings.answer_within)
        except TimeoutError:
            raise HangingTransactionError(topic, longest) from None
    return Cursor() if value is None else Cursor.decode(name, value)


async def _bounds(settings: KafkaSettings, partition: TopicPartition) -> tuple[int, int]:
    """Return the first offset and the high watermark, which only a reader of uncommitted records is told."""
    async with _reader(settings, "read_uncommitted") as consumer:
        first = await answer(consumer.beginning_offsets([partition]), "asking for offsets", settings.answer_within)
        end = await answer(consumer.end_offsets([partition]), "asking for offsets", settings.answer_within)
    return first[partition], end[partition]


async def _last_value(consumer: Any, partition: TopicPartition, first: int, end: int, within: float) -> bytes | None:
    """Return the last committed value before `end`: markers and aborted records may fill any stretch before it."""
    step, start, value = _FIRST_STEP, end, None
    if first < end:
        consumer.assign([partition])
    while value is None and start > first:
        start, stop = max(first, start - step), start
        step *= _STEP_FACTOR
        consumer.seek(partition, start)
        while await answer(consumer.position(partition), "asking for a position", within) < stop:
            records = await answer(consumer.getmany(partition, timeout_ms=_POLL_MS), "reading the cursor", within)
            for record in records.get(partition, ()):
                if record.offset < stop:
                    value = record.value
    return value


@asynccontextmanager
async def _reader(settings: KafkaSettings, isolation: str) -> AsyncIterator[Any]:
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        isolation_level=isolation,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=_POLL_MS,
    )
    try:
        await connected(consumer.start(), settings)
        yield consumer
    finally:
        await closed(consumer.stop())
