"""From records to events, each taken in once: a stream's versions say what was seen already, and what is missing."""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from aiokafka import ConsumerRecord, TopicPartition

from eventstore.errors import StreamGapError, UnreadableRecordError
from eventstore.outbox.cloudevents import Arrived, NotAnEventError, glance, read_event

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from eventstore.codec import StoredEvent
    from eventstore.kafka.places import Places

_REMEMBERED: Final = 100_000
"""Streams whose last version is kept in memory, so that it need not be asked for."""


class Arrivals(NamedTuple):
    """What some records bring.

    Attributes:
        events: The wanted events that are new, in the order of their positions.
        offsets: The next offset of each partition.
        versions: The last versions of the streams that have new events, wanted or not.
        positions: The position of each partition's last event, new or not.
    """

    events: list[StoredEvent]
    offsets: dict[TopicPartition, int]
    versions: dict[str, int]
    positions: dict[TopicPartition, int]


class Intake:
    """Turns records into events for one consumer.

    What it remembers holds as long as nobody else moves the consumer on: a new one begins with nothing.

    Args:
        places: Where the versions are kept.
        consumer: The consumer's name, for error messages.
        event_types: The stored names of the wanted events.
    """

    def __init__(self, places: Places, consumer: str, event_types: Collection[str]) -> None:
        self._places = places
        self._consumer = consumer
        self._event_types = frozenset(event_types)
        self._versions: dict[str, int] = {}

    async def take(self, records: Mapping[TopicPartition, Sequence[ConsumerRecord]]) -> Arrivals:
        """Return what records bring.

        Raises:
            StreamGapError: An event of a stream is missing.
            UnreadableRecordError: A record is not an event.
        """
        glanced = [_glance(record) for several in records.values() for record in several]
        await self._recall({arrived.stream_id for _, _, arrived in glanced})
        versions: dict[str, int] = {}
        events: list[StoredEvent] = []
        for record, headers, (_, stream_id, version, event_type) in glanced:
            seen = versions.get(stream_id) or self._versions.get(stream_id, 0)
            if version <= seen:
                continue
            if version > seen + 1:
                raise StreamGapError(self._consumer, record.topic, stream_id, seen + 1, version)
            versions[stream_id] = version
            if event_type in self._event_types:
                events.append(_read(record, headers))
        events.sort(key=_position)  # within a partition nothing moves, between them it is the log's order
        return Arrivals(
            events,
            offsets={partition: several[-1].offset + 1 for partition, several in records.items()},
            versions=versions,
            positions={TopicPartition(record.topic, record.partition): arrived[0] for record, _, arrived in glanced},
        )

    def remember(self, arrivals: Arrivals) -> None:
        """Note that arrivals were taken in, and committed."""
        self._versions.update(arrivals.versions)

    async def _recall(self, stream_ids: set[str]) -> None:
        unknown = stream_ids - self._versions.keys()
        if not unknown:
            return
        if len(self._versions) + len(unknown) > _REMEMBERED:
            self._versions.clear()
            unknown = stream_ids
        known = await self._places.versions(unknown)
        self._versions.update({stream_id: known.get(stream_id, 0) for stream_id in unknown})


def _glance(record: ConsumerRecord) -> tuple[ConsumerRecord, dict[str, bytes], Arrived]:
    headers = dict(record.headers)
    try:
        return record, headers, glance(headers)
    except NotAnEventError as error:
        raise UnreadableRecordError(record.topic, record.partition, record.offset, str(error)) from None


def _read(record: ConsumerRecord, headers: dict[str, bytes]) -> StoredEvent:
    try:
        return read_event(record.value or b"", headers)
    except NotAnEventError as error:
        raise UnreadableRecordError(record.topic, record.partition, record.offset, str(error)) from None


_position = attrgetter("position")
