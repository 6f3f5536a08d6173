"""Repairs of a publisher's cursor by hand: sending what is parked, going on without it, accepting new partitions.

Whoever repairs takes the group over like any instance: the one at work is fenced, and starts over when this is done.
Each step is one Kafka transaction, so it may be killed anywhere and run again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.errors import InvalidArgumentError, NotParkedByPublisherError, ParkedElsewhereByPublisherError
from eventstore.kafka.packing import Packer
from eventstore.kafka.taking_over import taken_over
from eventstore.store.log import StreamRange
from eventstore.store.reading import PageSize
from eventstore.subscriptions import Leases

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.kafka.cursor import Parked
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.kafka.taking_over import Tenure
    from eventstore.outbox import Publisher
    from eventstore.store import EventStore

_PAGE: Final = 1000


class Unparked(NamedTuple):
    """What became of a parked stream.

    Attributes:
        sent: How many of its held events were sent.
        parked: What is still held, and why; None when nothing is.
    """

    sent: int
    parked: Parked | None


async def unpark(store: EventStore, publisher: Publisher, settings: KafkaSettings, stream_id: str) -> Unparked:
    """Send what a publisher holds back of a stream, up to an event that cannot be sent even now: the rest stays parked.

    The transaction that sends the last of them clears the stream from the cursor; later events are sent as they come.

    Raises:
        NotParkedByPublisherError: The stream is not parked.
        EventStoreError: As `taken_over`, and what is wrong with a topic.
    """
    async with _holding_back(store, publisher, settings, stream_id) as (tenure, packer):
        return await _send_held(store, tenure, packer, stream_id)


async def discard(
    store: EventStore,
    publisher: Publisher,
    settings: KafkaSettings,
    stream_id: str,
    *,
    by: str,
    reason: str,
    version: int | None = None,
) -> Unparked:
    """Go on with a parked stream without its first held event, and send the rest.

    A record of the type `$discarded` goes out in its place, with its version and nothing of what is in it. Who did so,
    when and why is kept in the table `discarded_events`: before the record is sent, so that none goes without a note.

    Args:
        store: The store.
        publisher: Which publisher.
        settings: How to reach Kafka.
        stream_id: The stream.
        by: Who decided it.
        reason: Why.
        version: The version that it is held from, as whoever decided has seen it; unless the cursor still says that
            one, nothing is discarded. Left out: whichever it is.

    Raises:
        InvalidArgumentError: Nobody, or no reason, is named.
        NotParkedByPublisherError: The stream is not parked.
        ParkedElsewhereByPublisherError: It is held from another version.
        EventStoreError: As `taken_over`, and what is wrong with a topic.
    """
    if not by.strip() or not reason.strip():
        raise InvalidArgumentError("discarding an event needs a name (by=) and a reason (reason=): they are kept")
    async with _holding_back(store, publisher, settings, stream_id) as (tenure, packer):
        parked = tenure.cursor.parked[stream_id]
        if version not in {None, parked.stream_version}:
            raise ParkedElsewhereByPublisherError(publisher.name, stream_id, version, parked.stream_version)
        event, *following = await store.log.read_stream(StreamRange(stream_id, from_version=parked.stream_version), 2)
        await _note(store, publisher, event, parked, by=by, reason=reason)
        await tenure.commit(await packer.discard(event, following[0] if following else None))
        return await _send_held(store, tenure, packer, stream_id)


async def _note(
    store: EventStore, publisher: Publisher, event: StoredEvent, parked: Parked, *, by: str, reason: str
) -> None:
    await store.database.fetch(
        "note_unpublished",
        publisher.checkpoint_name,
        event.stream_id,
        event.stream_version,
        event.position,
        event.event_id,
        event.event_type,
        parked.reason,
        datetime.fromisoformat(parked.since),
        by,
        reason,
    )


@asynccontextmanager
async def _holding_back(
    store: EventStore, publisher: Publisher, settings: KafkaSettings, stream_id: str
) -> AsyncIterator[tuple[Tenure, Packer]]:
    """Take the group over that holds a stream back, for the length of the block."""
    group = next(group for group in publisher.all_groups() if group.owns(stream_id))
    async with (
        Leases(store.database).holding(group.checkpoint_name, seize=True) as lease,
        taken_over(store, group, settings, lease) as tenure,
    ):
        if stream_id not in tenure.cursor.parked:
            raise NotParkedByPublisherError(publisher.name, stream_id)
        packer = Packer(group, tenure.topics, tenure.cursor)
        await packer.prepare()
        yield tenure, packer


async def _send_held(store: EventStore, tenure: Tenure, packer: Packer, stream_id: str) -> Unparked:
    """Send what is held of a stream, up to an event that cannot be sent."""
    size, sent = PageSize(_PAGE), 0
    while (parked := tenure.cursor.parked.get(stream_id)) is not None:
        rows = max(2, size.rows)
        page = await store.log.read_stream(StreamRange(stream_id, from_version=parked.stream_version), rows)
        size.learn(page)
        part = await packer.release(stream_id, page, is_last=len(page) < rows)
        await tenure.commit(part)
        sent += part.events
        if not part.events:
            break
    return Unparked(sent, tenure.cursor.parked.get(stream_id))


async def accept_partitions(
    store: EventStore, publisher: Publisher, settings: KafkaSettings
) -> dict[str, tuple[int, int]]:
    """Go on publishing to topics that have another number of partitions now; return each with its old and new number.

    From here on streams are in the partitions that follow from the new number. A consumer sees a stream's later events
    before earlier ones unless it has come to the end of the topic before.

    Raises:
        EventStoreError: As `taken_over`, and what is wrong with a topic.
    """
    changed: dict[str, tuple[int, int]] = {}
    for group in publisher.all_groups():
        async with (
            Leases(store.database).holding(group.checkpoint_name, seize=True) as lease,
            taken_over(store, group, settings, lease) as tenure,
        ):
            packer = Packer(group, tenure.topics, tenure.cursor)
            changes = await packer.accept_partitions()
            if changes:
                await tenure.commit(packer.nothing())
                changed.update(changes)
    return changed
