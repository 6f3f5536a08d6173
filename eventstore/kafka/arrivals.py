"""From records to events, each taken in once: a stream's versions say what was seen already, and what is missing."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from heapq import merge
from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.errors import StreamGapError, UnreadableRecordError
from eventstore.kafka.dead_letters import DeadLetter
from eventstore.outbox.cloudevents import Arrived, NotAnEventError, glance, read_event

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from aiokafka import ConsumerRecord, TopicPartition

    from eventstore.codec import StoredEvent
    from eventstore.db.database import ConnectionSession
    from eventstore.kafka.places import Places

_REMEMBERED: Final = 16_384
"""Streams whose last version is kept in memory, so that it need not be asked for."""


class Arrival(NamedTuple):
    """What one record brings.

    Attributes:
        partition: Where it came from.
        offset: Its offset there.
        position: The event's position in the log; that of the one before it, if it is no event.
        stream_id: The event's stream; None when it was seen before, or is no event.
        version: Its version.
        event: The event, if it is new and wanted.
    """

    partition: TopicPartition
    offset: int
    position: int
    stream_id: str | None
    version: int
    event: StoredEvent | None


@dataclass(frozen=True)
class KafkaStretch:
    """Records that are applied together: within a partition in its order, between partitions in the log's.

    Attributes:
        places: Where the consumer's places are kept.
        arrivals: What the records bring.
        since: The next offsets before.
    """

    places: Places
    arrivals: Sequence[Arrival]
    since: Mapping[tuple[str, int], int]

    @cached_property
    def events(self) -> list[StoredEvent]:
        """The wanted events that are new."""
        return [arrival.event for arrival in self.arrivals if arrival.event is not None]

    @cached_property
    def offsets(self) -> dict[TopicPartition, int]:
        """The next offset of each partition."""
        return {arrival.partition: arrival.offset + 1 for arrival in self.arrivals}

    @cached_property
    def versions(self) -> dict[str, int]:
        """The last versions of the streams that have new events, wanted or not."""
        return {arrival.stream_id: arrival.version for arrival in self.arrivals if arrival.stream_id is not None}

    @cached_property
    def positions(self) -> dict[TopicPartition, int]:
        """The position of each partition's last event, new or not."""
        return {arrival.partition: arrival.position for arrival in self.arrivals}

    @cached_property
    def shares(self) -> Mapping[str, int]:
        """How many records of each partition these are."""
        return Counter(share_of(arrival.partition) for arrival in self.arrivals)

    def share_of(self, event: StoredEvent) -> str:
        """Return the partition that an event came from."""
        return self._share_of[event.stream_id, event.stream_version]

    @cached_property
    def _share_of(self) -> Mapping[tuple[str, int], str]:
        return {
            (arrival.event.stream_id, arrival.version): share_of(arrival.partition)
            for arrival in self.arrivals
            if arrival.event is not None
        }

    async def note(self, session: ConnectionSession) -> None:
        """Move on in the partitions, and note the versions of the streams.

        Raises:
            LeaseLostError: Somebody else has moved on in a partition.
        """
        await self.places.move(session, self.offsets, since=self.since, versions=self.versions)

    def split(self, count: int) -> tuple[KafkaStretch, KafkaStretch]:
        """Return the stretch up to its first `count` events, and what is left of it."""
        wanted = [index for index, arrival in enumerate(self.arrivals) if arrival.event is not None]
        at = wanted[count - 1] + 1
        first = KafkaStretch(self.places, self.arrivals[:at], self.since)
        return first, KafkaStretch(self.places, self.arrivals[at:], {**self.since, **first.offsets})


def share_of(partition: TopicPartition) -> str:
    """Return the name of a partition's share of a consumer's events."""
    return f"{partition.topic}/{partition.partition}"


class Intake:
    """Turns records into events for one consumer.

    What it remembers holds as long as nobody else moves the consumer on: a new one begins with nothing.

    Args:
        places: Where the versions are kept.
        consumer: The consumer's name, for error messages.
        event_types: The stored names of the wanted events.
        wants_stream: Whether a stream's events are wanted at all: a topic may carry several categories.
        keeps_dead_letters: Whether records that are no events are put aside, or refused.
    """

    def __init__(
        self,
        places: Places,
        consumer: str,
        event_types: Collection[str],
        *,
        wants_stream: Callable[[str], bool] = lambda _: True,
        keeps_dead_letters: bool = False,
    ) -> None:
        self._places = places
        self._consumer = consumer
        self._event_types = frozenset(event_types)
        self._wants_stream = wants_stream
        self._keeps_dead_letters = keeps_dead_letters
        self._versions: dict[str, int] = {}

    async def take(
        self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]
    ) -> tuple[list[Arrival], list[DeadLetter]]:
        """Return what records bring, and those that are no events.

        Raises:
            StreamGapError: An event of a stream is missing.
            UnreadableRecordError: A record is not an event, and there is nowhere to put it.
        """
        dead: list[DeadLetter] = []
        glanced = {
            partition: [(record, *self._glance(record, dead)) for record in several]
            for partition, several in records.items()
        }
        await self._recall({known.stream_id for several in glanced.values() for _, _, known in several if known})
        versions: dict[str, int] = {}
        arrivals = [self._arrivals(partition, several, versions, dead) for partition, several in glanced.items()]
        return list(merge(*arrivals, key=attrgetter("position"))), dead

    def remember(self, versions: Mapping[str, int]) -> None:
        """Note that these versions were taken in, and committed."""
        self._versions.update(versions)

    def _arrivals(
        self,
        partition: TopicPartition,
        records: Sequence[tuple[ConsumerRecord, dict[str, bytes], Arrived | None]],
        versions: dict[str, int],
        dead: list[DeadLetter],
    ) -> list[Arrival]:
        arrivals: list[Arrival] = []
        position = 0
        for record, headers, known in records:
            if known is None:
                arrivals.append(Arrival(partition, record.offset, position, None, 0, None))
                continue
            position, stream_id, version, event_type = known
            seen = versions.get(stream_id) or self._versions.get(stream_id, 0)
            is_wanted = event_type in self._event_types and self._wants_stream(stream_id)
            event = None
            if version == seen + 1 and is_wanted:
                event = self._read(record, headers, dead)
            is_new = version == seen + 1 and (event is not None or not is_wanted)
            if version > seen + 1:
                raise StreamGapError(self._consumer, record.topic, stream_id, seen + 1, version)
            if is_new:
                versions[stream_id] = version
            arrivals.append(Arrival(partition, record.offset, position, stream_id if is_new else None, version, event))
        return arrivals

    async def _recall(self, stream_ids: set[str]) -> None:
        unknown = stream_ids - self._versions.keys()
        if not unknown:
            return
        if len(self._versions) + len(unknown) > _REMEMBERED:
            self._versions.clear()
            unknown = stream_ids
        known = await self._places.versions(unknown)
        self._versions.update({stream_id: known.get(stream_id, 0) for stream_id in unknown})

    def _glance(self, record: ConsumerRecord, dead: list[DeadLetter]) -> tuple[dict[str, bytes], Arrived | None]:
        headers = dict(record.headers)
        try:
            return headers, glance(headers)
        except NotAnEventError as error:
            self._put_aside(record, error, dead)
            return headers, None

    def _read(self, record: ConsumerRecord, headers: dict[str, bytes], dead: list[DeadLetter]) -> StoredEvent | None:
        try:
            return read_event(record.value or b"", headers)
        except NotAnEventError as error:
            self._put_aside(record, error, dead)
            return None

    def _put_aside(self, record: ConsumerRecord, error: NotAnEventError, dead: list[DeadLetter]) -> None:
        if not self._keeps_dead_letters:
            raise UnreadableRecordError(record.topic, record.partition, record.offset, str(error)) from None
        dead.append(DeadLetter(record, str(error)))
