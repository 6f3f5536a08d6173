"""Repairs of a publisher's cursor by hand: sending what is parked, and accepting partitions that a topic was given.

Whoever repairs takes the group over like any instance: the one at work is fenced, and starts over when this is done.
Each step is one Kafka transaction, so it may be killed anywhere and run again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.errors import NotParkedByPublisherError
from eventstore.kafka.packing import Packer
from eventstore.kafka.taking_over import taken_over
from eventstore.store.log import StreamRange
from eventstore.store.reading import PageSize
from eventstore.subscriptions import Leases

if TYPE_CHECKING:
    from eventstore.kafka.cursor import Parked
    from eventstore.kafka.settings import KafkaSettings
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
    group = next(group for group in publisher.all_groups() if group.owns(stream_id))
    async with (
        Leases(store.database).holding(group.checkpoint_name, seize=True) as lease,
        taken_over(store, group, settings, lease) as tenure,
    ):
        if stream_id not in tenure.cursor.parked:
            raise NotParkedByPublisherError(publisher.name, stream_id)
        packer = Packer(group, tenure.topics, tenure.cursor)
        await packer.prepare()
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
