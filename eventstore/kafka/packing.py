"""From the log to record batches: the hot path of publishing, a few microseconds an event.

Everything here happens while the transaction before is under way, and nothing of it is sent yet. That transaction is a
conversation with the broker in half a dozen steps: packing gives way to it again and again, or it would stand still
while a part is packed, and the next part would then wait for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from aiokafka.partitioner import murmur2

from eventstore.errors import (
    EventStoreError,
    LogMismatchError,
    MessageTooLargeError,
    TooManyUnpublishedStreamsError,
    TopicConfigurationError,
    UnroutableEventError,
)
from eventstore.kafka.cursor import Cursor, Parked
from eventstore.kafka.producer import RecordBatch, new_builder
from eventstore.outbox import CloudEvents, in_place_of
from eventstore.streams import category_of
from eventstore.subscriptions import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstore.codec import StoredEvent
    from eventstore.kafka.topics import Topics
    from eventstore.outbox import Group, Headers
    from eventstore.subscriptions import Batch

log = logging.getLogger(__name__)

MAX_BATCH_BYTES: Final = 1024 * 1024
"""The largest record batch, in bytes; a single record may be larger, up to what its topic accepts."""

TRANSACTION_BYTES: Final = 16 * 1024 * 1024
"""Payload after which a transaction is closed though the batch goes on: it must be acknowledged within seconds."""

TURN: Final = 64
"""Events packed at a stretch, a millisecond's work: the transaction that is under way meanwhile has its turns."""

_REMEMBERED: Final = 16_384
"""Streams whose way is kept, at some 700 bytes each: working it out takes 10 microseconds, more than the rest."""

_REASON_BYTES: Final = 300


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key, as Java's default partitioner does."""
    return int((murmur2(key) & 0x7FFF_FFFF) % partitions)


class Part(NamedTuple):
    """What goes out in one transaction.

    Attributes:
        batches: Its records; none when nothing in this stretch of the log is wanted.
        cursor: Where the cursor stands with it.
        events: How many events are in it.
    """

    batches: list[RecordBatch]
    cursor: Cursor
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


class Way(NamedTuple):
    """Where a stream's events go, and what all of their records have."""

    lane: Lane
    key: bytes
    headers: Headers


Ways: TypeAlias = dict[str | tuple[str, str], Way]
"""The ways of streams by their ids; for a publisher that routes by type or function, by type and stream."""


class Packer:
    """Packs the events of one group of a publisher for one producer.

    Args:
        group: The group.
        topics: Where topics are looked up that are not known yet.
        cursor: Where the group has come to, with the partitions that topics had, and what is held back.
        ways: The memory of ways, if it is shared: no two groups have a stream in common. What it holds is forgotten,
            because topics may have changed since.

    Attributes:
        cursor: The cursor of the part that was packed last.
    """

    def __init__(self, group: Group, topics: Topics, cursor: Cursor, ways: Ways | None = None) -> None:
        self.cursor = cursor
        self._group = group
        self._publisher = group.publisher
        self._topics = topics
        self._partitions = dict(cursor.partitions)
        self._parked = dict(cursor.parked)
        self._cloud_events = CloudEvents(group.publisher.source or f"/eventstore/{group.publisher.name}")
        self._lanes: dict[str, list[Lane]] = {}
        self._ways: Ways = {} if ways is None else ways
        self._ways.clear()

    async def prepare(self) -> None:
        """Look all topics up that are known by now.

        Raises:
            LogMismatchError: A topic that was published to is gone.
            MissingTopicError: A declared topic does not exist.
            TopicConfigurationError: A topic would lose or reorder events.
        """
        for name in {**self._partitions, **dict.fromkeys(self._publisher.topics())}:
            await self._lanes_of(name)

    async def parts(self, batches: AsyncIterator[Batch]) -> AsyncGenerator[Part, None]:
        """Yield what is to be published, one transaction after the other, as the log grows.

        Args:
            batches: The log, from the cursor on.

        Raises:
            MessageTooLargeError: The next event is larger than its topic accepts, and the publisher is to halt then;
                what is before it was yielded.
            UnroutableEventError: The same for an event that has no topic.
            MissingTopicError, TopicConfigurationError, LogMismatchError: The same for what is wrong with its topic.
            TooManyUnpublishedStreamsError: The next event's stream would be parked, one more than may be.
            CursorTooLargeError: The cursor would outgrow its topic with the next event's topic, or its stream parked.
        """
        async for batch in batches:
            async with aclosing(self.split(batch.events, batch.checkpoint)) as parts:
                async for part in parts:
                    yield part

    async def split(self, events: Sequence[StoredEvent], up_to: Checkpoint) -> AsyncGenerator[Part, None]:
        """Yield what a stretch of the log is published with: one part, or several when it is large.

        Args:
            events: The wanted events in it.
            up_to: The last event of it, wanted or not.

        Raises:
            As `parts`.
        """
        draft, last, parked = Draft(), None, self._parked
        by_type = not self._publisher.keeps_streams_whole
        for number, event in enumerate(events, 1):
            if not number % TURN:
                await asyncio.sleep(0)
            if parked and event.stream_id in parked:
                last = event
                continue
            try:
                known = self._ways.get((event.event_type, event.stream_id) if by_type else event.stream_id)
                way = known or await self._way_of(event)
                draft.add(event, way, self._cloud_events.headers(event, way.headers))
            except EventStoreError as error:
                try:
                    self._park(event, error)
                except EventStoreError:  # what is before it can be sent all the same
                    if last is not None and draft.events:
                        yield self._close(draft, _at(last, up_to.epoch))
                    raise
            last = event
            if draft.size >= TRANSACTION_BYTES:
                yield self._close(draft, _at(event, up_to.epoch))
                draft = Draft()
        yield self._close(draft, up_to)

    async def _way_of(self, event: StoredEvent) -> Way:
        """Return the way of an event.

        Raises:
            UnroutableEventError: Its topic's name cannot be one.
            MissingTopicError, TopicConfigurationError, LogMismatchError: As `prepare`.
        """
        stream_id, event_type = event.stream_id, event.event_type
        topic = self._publisher.topic_of(category_of(stream_id), event_type)
        lanes = await self._lanes_of(topic)
        key = stream_id.encode()
        if len(self._ways) >= _REMEMBERED:
            self._ways.clear()
        known_as = stream_id if self._publisher.keeps_streams_whole else (event_type, stream_id)
        way = Way(lanes[partition_of(key, len(lanes))], key, self._cloud_events.of_stream(stream_id))
        return self._ways.setdefault(known_as, way)

    async def release(self, stream_id: str, page: Sequence[StoredEvent], *, is_last: bool) -> Part:
        """Return a part with what is held of a parked stream, up to an event that cannot be sent either.

        Args:
            stream_id: The stream.
            page: Its events from the first held one on, two at least unless it is the last page.
            is_last: Whether there are no more.

        Raises:
            MissingTopicError, TopicConfigurationError, LogMismatchError: As `prepare`.
        """
        parked, draft = self._parked.pop(stream_id), Draft()
        looked_at = [event for event in page if event.position <= self.cursor.checkpoint.position]
        # The last one of a page stays for the next: a place to go on is an event that is known.
        stop = None if is_last or len(looked_at) < len(page) else looked_at[-1]
        for event in looked_at:
            reason = parked.reason if event is stop or draft.size >= TRANSACTION_BYTES else None
            if reason is None:
                try:
                    way = await self._way_of(event)
                    draft.add(event, way, self._cloud_events.headers(event, way.headers))
                except (MessageTooLargeError, UnroutableEventError) as error:
                    reason = reason_of(error)
            if reason is not None:
                self._parked[stream_id] = Parked(event.position, event.stream_version, reason, parked.since)
                break
        return self._close(draft, self.cursor.checkpoint)

    async def discard(self, event: StoredEvent, following: StoredEvent | None) -> Part:
        """Return a part with a record in the place of a parked stream's first held event, and without the event.

        An event that has no topic leaves none: no reader of a topic misses it.

        Args:
            event: The event.
            following: The next one of its stream, if there is one.

        Raises:
            MissingTopicError, TopicConfigurationError, LogMismatchError: As `prepare`.
        """
        parked, draft = self._parked.pop(event.stream_id), Draft()
        try:
            way = await self._way_of(event)
        except UnroutableEventError:
            pass
        else:
            record = in_place_of(event)
            draft.add(record, way, self._cloud_events.headers(record, way.headers))
        if following is not None and following.position <= self.cursor.checkpoint.position:
            held = parked._replace(position=following.position, stream_version=following.stream_version)
            self._parked[event.stream_id] = held
        return self._close(draft, self.cursor.checkpoint)

    async def accept_partitions(self) -> dict[str, tuple[int, int]]:
        """Take the topics with as many partitions as they have now; return what changed, from and to.

        Raises:
            LogMismatchError: A topic that was published to is gone.
        """
        changed: dict[str, tuple[int, int]] = {}
        for name, known in self._partitions.items():
            topic = await self._topics.find(name)
            if topic is not None and topic.partitions != known:
                changed[name] = (known, topic.partitions)
        self._partitions.update({name: now for name, (_, now) in changed.items()})
        await self.prepare()
        return changed

    def nothing(self) -> Part:
        """Return a part without events, to write what else has changed."""
        return self._close(Draft(), self.cursor.checkpoint)

    def _close(self, draft: Draft, checkpoint: Checkpoint) -> Part:
        self.cursor = replace(
            self.cursor, checkpoint=checkpoint, partitions=dict(self._partitions), parked=dict(self._parked)
        )
        return Part(draft.close(), self.cursor, draft.events)

    def _park(self, event: StoredEvent, error: EventStoreError) -> None:
        """Hold an event's stream back, if the event is why, and it is wanted; raises what stops the publisher else."""
        if not isinstance(error, MessageTooLargeError | UnroutableEventError) or self._publisher.on_failure == "halt":
            raise error
        if len(self._parked) >= self._publisher.max_parked:
            raise TooManyUnpublishedStreamsError(
                self._group.name, self._publisher.max_parked, event.stream_id, reason_of(error)
            ) from error
        now = datetime.now(UTC).isoformat(timespec="seconds")
        held = Parked(event.position, event.stream_version, reason_of(error), now)
        self._require_room(self._partitions, {**self._parked, event.stream_id: held})
        self._parked[event.stream_id] = held
        log.warning(
            "publisher %s parks %s at version %d: %s",
            self._group.name,
            event.stream_id,
            event.stream_version,
            reason_of(error),
        )

    def _require_room(self, partitions: Mapping[str, int], parked: Mapping[str, Parked]) -> None:
        replace(self.cursor, partitions=partitions, parked=parked).require_room(self._group.name)

    async def _lanes_of(self, name: str) -> list[Lane]:
        lanes = self._lanes.get(name)
        if lanes is not None:
            return lanes
        known = self._partitions.get(name)
        if known is not None and await self._topics.find(name) is None:
            raise LogMismatchError(
                self._group.checkpoint_name,
                f"the topic {name!r} was published to, but is gone; restore it, or publish everything again under "
                "another name",
            )
        topic = await self._topics.for_events(name, self._publisher)
        if known not in {None, topic.partitions}:
            raise TopicConfigurationError(
                name,
                f"it has {topic.partitions} partitions, but had {known} when it was published to: streams would move "
                "to other partitions, and their order is lost where they do; let every consumer come to the topic's "
                f"end, then run `eventstore publisher accept-partitions {self._publisher.name}`; or publish to a new "
                "topic, under another name",
            )
        if known is None:
            self._require_room({**self._partitions, name: topic.partitions}, self._parked)
        self._partitions[name] = topic.partitions
        lanes = [Lane(name, number, topic.max_message_bytes) for number in range(topic.partitions)]
        return self._lanes.setdefault(name, lanes)


class Draft:
    """A part that is being filled: a record batch is open for each partition, full ones are put aside.

    Attributes:
        events: How many events are in it.
        size: How large their payloads are together, in bytes.
    """

    def __init__(self) -> None:
        self._full: list[RecordBatch] = []
        self._open: dict[Lane, Any] = {}
        self.events = 0
        self.size = 0

    def add(self, event: StoredEvent, way: Way, headers: Headers) -> None:
        """Add an event, with all of its headers.

        Raises:
            MessageTooLargeError: It is larger than the topic accepts; the part is as it was.
        """
        lane, key, _ = way
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
        self.size += len(payload)

    def close(self) -> list[RecordBatch]:
        """Return the records; a partition's batches are in order."""
        return self._full + [RecordBatch(lane.topic, lane.partition, builder) for lane, builder in self._open.items()]


def reason_of(error: MessageTooLargeError | UnroutableEventError) -> str:
    """Return why an event cannot be sent, short enough to be a part of every cursor."""
    if isinstance(error, MessageTooLargeError):
        reason = f"it takes {error.size} bytes, the topic accepts {error.limit}: {error.topic}"
    else:
        reason = error.problem
    return reason.encode()[:_REASON_BYTES].decode(errors="ignore")


def _at(event: StoredEvent, epoch: int) -> Checkpoint:
    return Checkpoint(event.position, event.event_id, epoch)
