"""From the log to record batches: the hot path of publishing, a few microseconds an event.

Everything here happens while the transaction before is under way, and nothing of it is sent yet.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka.partitioner import murmur2

from eventstore.errors import LogMismatchError, MessageTooLargeError, TopicConfigurationError
from eventstore.kafka.producer import RecordBatch, new_builder
from eventstore.outbox import CloudEvents
from eventstore.streams import category_of
from eventstore.subscriptions import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstore.codec import StoredEvent
    from eventstore.kafka.topics import Topics
    from eventstore.outbox import Headers, Publisher
    from eventstore.subscriptions import Batch, LogFollower

MAX_BATCH_BYTES: Final = 1024 * 1024
"""The largest record batch, in bytes; a single record may be larger, up to what its topic accepts."""

TRANSACTION_BYTES: Final = 16 * 1024 * 1024
"""Payload after which a transaction is closed though the batch goes on: it must be acknowledged within seconds."""

_REMEMBERED: Final = 65_536
"""Streams whose partition is kept; working it out takes longer than everything else that a stream needs."""


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Java's default partitioner does."""
    return int((murmur2(key) & 0x7FFF_FFFF) % partitions)


class Part(NamedTuple):
    """What goes out in one transaction.

    Attributes:
        batches: Its records; none when nothing in this stretch of the log is wanted.
        checkpoint: The last event looked at.
        events: How many events are in it.
    """

    batches: list[RecordBatch]
    checkpoint: Checkpoint
    events: int


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    """One partition of a topic that is published to, and the largest record batch that it accepts, in bytes."""

    topic: str
    partition: int
    max_bytes: int

    def new_builder(self) -> Any:
        """Return an empty record batch for this partition."""
        return new_builder(min(MAX_BATCH_BYTES, self.max_bytes))


class Packer:
    """Packs the events of one publisher for one producer.

    Args:
        publisher: The declaration.
        topics: Where topics are looked up that are not known yet.
        partitions: How many partitions each topic had when it was published to before.
    """

    def __init__(self, publisher: Publisher, topics: Topics, partitions: Mapping[str, int]) -> None:
        self._publisher = publisher
        self._topics = topics
        self.partitions = dict(partitions)
        self._cloud_events = CloudEvents(publisher.source or f"/eventstore/{publisher.name}")
        self._lanes: dict[str, list[Lane]] = {}
        self._routes: dict[str, tuple[Lane, bytes]] = {}

    async def prepare(self) -> None:
        """Look all topics up that are known by now.

        Raises:
            LogMismatchError: A topic that was published to is gone.
            MissingTopicError: A declared topic does not exist.
            TopicConfigurationError: A topic would lose or reorder events.
        """
        for name in {**self.partitions, **dict.fromkeys(self._publisher.topics())}:
            await self._lanes_of(name)

    async def parts(self, follower: LogFollower) -> AsyncGenerator[Part, None]:
        """Yield what is to be published, one transaction after the other, as the log grows.

        Raises:
            MessageTooLargeError: The next event is larger than its topic accepts; what is before it was yielded.
        """
        async for batch in follower:
            async with aclosing(self._split(batch)) as parts:
                async for part in parts:
                    yield part

    async def _split(self, batch: Batch) -> AsyncGenerator[Part, None]:
        epoch = batch.checkpoint.epoch
        draft, size, last = _Draft(), 0, None
        for event in batch.events:
            lane, key = self._routes.get(event.stream_id) or await self._route(event.stream_id)
            try:
                size += draft.add(event, lane, key, self._cloud_events.headers(event))
            except MessageTooLargeError:
                if last is not None and draft.events:
                    yield draft.close(Checkpoint(last.position, last.event_id, epoch))
                raise
            last = event
            if size >= TRANSACTION_BYTES:
                yield draft.close(Checkpoint(event.position, event.event_id, epoch))
                draft, size = _Draft(), 0
        yield draft.close(batch.checkpoint)

    async def _route(self, stream_id: str) -> tuple[Lane, bytes]:
        lanes = await self._lanes_of(self._publisher.topic_of(category_of(stream_id)))
        key = stream_id.encode()
        if len(self._routes) >= _REMEMBERED:
            self._routes.clear()
        return self._routes.setdefault(stream_id, (lanes[partition_of(key, len(lanes))], key))

    async def _lanes_of(self, name: str) -> list[Lane]:
        lanes = self._lanes.get(name)
        if lanes is not None:
            return lanes
        known = self.partitions.get(name)
        if known is not None and await self._topics.find(name) is None:
            raise LogMismatchError(
                self._publisher.checkpoint_name,
                f"the topic {name!r} was published to, but is gone; restore it, or publish everything again under "
                "another name",
            )
        topic = await self._topics.for_events(name, self._publisher)
        if known not in {None, topic.partitions}:
            raise TopicConfigurationError(
                name,
                f"it has {topic.partitions} partitions, but had {known} when it was published to: streams would move "
                "to other partitions and lose their order; publish to a new topic, under another name",
            )
        self.partitions[name] = topic.partitions
        lanes = [Lane(name, number, topic.max_message_bytes) for number in range(topic.partitions)]
        return self._lanes.setdefault(name, lanes)


class _Draft:
    """A part that is being filled: a record batch is open for each partition, full ones are put aside."""

    def __init__(self) -> None:
        self._full: list[RecordBatch] = []
        self._open: dict[Lane, Any] = {}
        self.events = 0

    def add(self, event: StoredEvent, lane: Lane, key: bytes, headers: Headers) -> int:
        """Add an event, and return the size of its payload in bytes.

        Raises:
            MessageTooLargeError: It is larger than the topic accepts; the part is as it was.
        """
        payload = event.data.encode()
        milliseconds = int(event.recorded_at.timestamp() * 1000)
        builder = self._open.get(lane)
        if builder is None or builder.append(timestamp=milliseconds, key=key, value=payload, headers=headers) is None:
            # A new batch takes its first record whatever its size, so this is where that is checked.
            fresh = lane.new_builder()
            fresh.append(timestamp=milliseconds, key=key, value=payload, headers=headers)
            if fresh.size() > lane.max_bytes:
                raise MessageTooLargeError(
                    lane.topic, event.stream_id, event.stream_version, fresh.size(), lane.max_bytes
                )
            if builder is not None:
                self._full.append(RecordBatch(lane.topic, lane.partition, builder))
            self._open[lane] = fresh
        self.events += 1
        return len(payload)

    def close(self, checkpoint: Checkpoint) -> Part:
        """Return the part; a partition's batches are in order."""
        batches = [RecordBatch(lane.topic, lane.partition, builder) for lane, builder in self._open.items()]
        return Part(self._full + batches, checkpoint, self.events)
