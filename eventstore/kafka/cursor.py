"""The cursor: how far a publisher (or a group of it) has come, written in the transaction that carries the records.

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
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from eventstore.errors import CursorTooLargeError, HangingTransactionError, LogMismatchError
from eventstore.kafka.answers import answer, closed, connected
from eventstore.kafka.producer import RecordBatch, new_builder
from eventstore.kafka.topics import MAX_MESSAGE_BYTES
from eventstore.subscriptions import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstore.kafka.settings import KafkaSettings

FORMAT: Final = 2
"""The cursor record's format; a newer one is refused. Format 1 knew neither parked streams nor groups."""

CURSOR_KEY: Final = b"cursor"

MAX_BYTES: Final = MAX_MESSAGE_BYTES - 64 * 1024
"""The largest cursor with which streams are parked and topics are added; the rest is for numbers that grow later."""

BROKER_SCAN: Final = 10.0
"""Seconds between two scans of the broker for transactions that have timed out (its default)."""

_FIRST_STEP: Final = 200
_STEP_FACTOR: Final = 10
_POLL_MS: Final = 100


class Parked(NamedTuple):
    """A stream whose events are held back.

    Attributes:
        position: The position of the first event that is held.
        stream_version: Its version.
        reason: Why it could not be sent.
        since: When it was parked, in ISO 8601.
    """

    position: int
    stream_version: int
    reason: str
    since: str


class Layout(NamedTuple):
    """Into how many groups a publisher is split.

    Attributes:
        groups: How many.
        era: How often that was changed, and once more: tells this layout's cursors from those of one before it.
    """

    groups: int = 1
    era: int = 1


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a group has come.

    Attributes:
        checkpoint: The last event of the log that was looked at, with the epoch that published it.
        partitions: How many partitions each topic had: streams keep their partitions only as long as that stays.
        parked: The streams that are held back, by their ids; everything else up to the checkpoint was sent.
        layout: The layout under which it was written.
        closed_for: The number of groups that it gave way to; its layout never publishes again.
    """

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    partitions: Mapping[str, int] = field(default_factory=dict)
    parked: Mapping[str, Parked] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    closed_for: int | None = None

    def encode(self) -> bytes:
        """Return the cursor as its record's value."""
        event_id = self.checkpoint.event_id
        written: dict[str, Any] = {
            "format": FORMAT,
            "position": self.checkpoint.position,
            "event_id": None if event_id is None else str(event_id),
            "epoch": self.checkpoint.epoch,
            "partitions": dict(self.partitions),
            "layout": self.layout,
        }
        if self.parked:
            written["parked"] = dict(self.parked)
        if self.closed_for is not None:
            written["closed_for"] = self.closed_for
        return json.dumps(written, ensure_ascii=False).encode()

    def require_room(self, name: str) -> None:
        """Check that the topic takes it: a cursor that does not fit could never be written, and nothing without it.

        Args:
            name: Whose cursor it is.

        Raises:
            CursorTooLargeError: It does not fit.
        """
        size = len(self.encode())
        if size > MAX_BYTES:
            raise CursorTooLargeError(name, size, MAX_BYTES, len(self.parked), len(self.partitions))

    @staticmethod
    def decode(name: str, value: bytes) -> Cursor:
        """Read a cursor record's value.

        Raises:
            LogMismatchError: It is none, or newer code than this wrote it.
        """
        try:
            written: Any = json.loads(value)
            if not 1 <= written["format"] <= FORMAT:
                raise LogMismatchError(name, f"its cursor has format {written['format']}, this code knows {FORMAT}")
            event_id = written["event_id"]
            return Cursor(
                Checkpoint(written["position"], None if event_id is None else UUID(event_id), written["epoch"]),
                dict(written["partitions"]),
                {stream_id: Parked(*held) for stream_id, held in written.get("parked", {}).items()},
                Layout(*written.get("layout", ())),
                written.get("closed_for"),
            )
        except (ValueError, KeyError, TypeError):
            raise LogMismatchError(
                name, "the last record of its cursor topic is no cursor: somebody else writes to it"
            ) from None

    def record(self, topic: str, key: bytes = CURSOR_KEY) -> RecordBatch:
        """Return the cursor as what a transaction carries to a topic."""
        builder = new_builder(0)  # the first record is taken whatever its size
        builder.append(timestamp=None, key=key, value=self.encode(), headers=[])
        return RecordBatch(topic, 0, builder)


async def read_cursor(settings: KafkaSettings, name: str, topic: str, key: bytes = CURSOR_KEY) -> Cursor:
    """Return the last committed cursor of a topic; the start of the log when there is none. As `find_cursor`."""
    return await find_cursor(settings, name, topic, key) or Cursor()


async def find_cursor(settings: KafkaSettings, name: str, topic: str, key: bytes = CURSOR_KEY) -> Cursor | None:
    """Return the last committed cursor of a topic; None when there is none.

    Args:
        settings: How to reach Kafka.
        name: Whose cursor it is, for error messages.
        topic: Its topic.
        key: Its key; a topic that keeps several has one for each.

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
                value = await _last_value(consumer, partition, (first, end), key, settings.answer_within)
        except TimeoutError:
            raise HangingTransactionError(topic, longest) from None
    return None if value is None else Cursor.decode(name, value)


async def _bounds(settings: KafkaSettings, partition: TopicPartition) -> tuple[int, int]:
    """Return the first offset and the high watermark, which only a reader of uncommitted records is told."""
    async with _reader(settings, "read_uncommitted") as consumer:
        first = await answer(consumer.beginning_offsets([partition]), "asking for offsets", settings.answer_within)
        end = await answer(consumer.end_offsets([partition]), "asking for offsets", settings.answer_within)
    return first[partition], end[partition]


async def _last_value(
    consumer: Any, partition: TopicPartition, between: tuple[int, int], key: bytes, within: float
) -> bytes | None:
    """Return the last committed value before `end`: markers and aborted records may fill any stretch before it."""
    first, end = between
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
                if record.offset < stop and record.key == key:
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
