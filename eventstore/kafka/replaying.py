"""Replaying: a range of the log once more, to a topic of one's choice, for repairs, past the publisher's own cursor.

Each replay has a cursor of its own, by range and topic, written in the Kafka transactions that carry its records. So a
replay that was killed goes on where it was when it is run again, and one that has come to its end does nothing. What is
sent is the same as before, headers included: a consumer that knows events by stream and version drops what it has seen.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from eventstore.errors import ConfigurationError, InvalidArgumentError
from eventstore.events import position_number
from eventstore.kafka.cursor import Cursor, find_cursor
from eventstore.kafka.packing import Packer
from eventstore.kafka.producer import started_producer
from eventstore.kafka.stretches import read_between
from eventstore.kafka.topics import opened_topics
from eventstore.outbox import Group, publisher_checkpoint
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoint, Leases
from eventstore.subscriptions.checkpoints import require_on_log

if TYPE_CHECKING:
    from eventstore.events import Position
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Publisher
    from eventstore.store import EventStore, Log


class Replayed(NamedTuple):
    """What a replay did.

    Attributes:
        events: How many events it sent.
        went_on_after: Where an earlier run of the same replay had come; None when this one began.
    """

    events: int
    went_on_after: int | None


async def replay(
    store: EventStore,
    publisher: Publisher,
    settings: KafkaSettings,
    *,
    first: Position,
    last: Position,
    topic: str,
    again: bool = False,
) -> Replayed:
    """Send the events of a range that a publisher wants to a topic, each once however often this is run.

    Args:
        store: The store.
        publisher: Whose events.
        settings: How to reach Kafka.
        first: The first position of the range.
        last: Its last position.
        topic: The whole name of the topic; it is made, and checked, like the publisher's own.
        again: Begin at the first position, even if an earlier run has sent some of it.

    Raises:
        InvalidArgumentError: The range is empty, or reaches past what is settled.
        ConfigurationError: The topic is one of the publisher's cursors, or unfit.
        LogMismatchError: The log has lost events of the range meanwhile.
        EventStoreError: An event does not fit the topic; Kafka or PostgreSQL failed.
    """
    begin, end = position_number(first), position_number(last)
    settled = await store.log.high_water()
    if not 0 < begin <= end <= settled:
        raise InvalidArgumentError(
            f"a replay goes from a position to one that is not before it, and not past {settled}, up to which the log "
            f"is settled; not from {begin} to {end}"
        )
    if topic.startswith((publisher.cursor_topic, _topic_of_replays(publisher))):
        raise ConfigurationError(f"the topic {topic!r} keeps cursors of publisher {publisher.name!r}")
    to_topic = replace(publisher, topic=topic, topic_prefix="", groups=1, on_failure="halt")
    name = f"{publisher.name}/replay"
    key = f"{begin}-{end} to {topic}".encode()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(Leases(store.database).holding(publisher_checkpoint(name)))
        topics = await stack.enter_async_context(opened_topics(settings))
        cursors = (await topics.for_cursor(_topic_of_replays(publisher), publisher)).name
        producer = await stack.enter_async_context(started_producer(settings, f"{publisher.fencing_id}/replay"))
        found = None if again else await find_cursor(settings, name, cursors, key)
        cursor = found or Cursor(Checkpoint(begin - 1))
        if found:
            await require_on_log(store.log, name, cursor.checkpoint)
        packer = Packer(Group(to_topic), topics, cursor)
        await packer.prepare()
        sent = 0
        batches = read_between(
            store.log,
            cursor.checkpoint,
            await _last_of(store.log, end),
            wanted=LogRange(categories=publisher.categories),
            batch=publisher.batch,
            name=name,
        )
        async with aclosing(batches):
            async for batch in batches:
                async for part in packer.split(batch.events, batch.checkpoint):
                    await producer.commit([*part.batches, part.cursor.record(cursors, key)])
                    sent += part.events
        return Replayed(sent, found.checkpoint.position if found else None)


async def _last_of(log: Log, end: int) -> Checkpoint:
    """Return the last event of a range, which may end in a gap."""
    last = await log.last_event(end)
    return Checkpoint(*last) if last else Checkpoint()


def _topic_of_replays(publisher: Publisher) -> str:
    return f"{publisher.topic_prefix}publisher-{publisher.name}-replays"
