"""Taking a group over: what everybody does who is to publish for it, be it for hours or for one transaction.

    lease held --> the mirror is read --> a new producer: everybody older is fenced --> the cursor is read
               --> it is held against the mirror, the log and the layout --> a tenure

In this order: the mirror before the fencing, so that nobody older can have moved it ahead of the cursor that is seen;
the cursor after it, so that nothing can be added behind its back.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eventstore.kafka.cursor import Cursor, read_cursor
from eventstore.kafka.layout import require_layout
from eventstore.kafka.mirror import Mirror
from eventstore.kafka.producer import TransactionalProducer, started_producer
from eventstore.kafka.topics import Topics, opened_topics
from eventstore.subscriptions.checkpoints import require_on_log

if TYPE_CHECKING:
    from eventstore.kafka.packing import Part
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Group
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease


@dataclass(slots=True)
class Tenure:
    """A group that was taken over, until its producer fails or somebody else takes it. Made by `taken_over`.

    Attributes:
        group: The group.
        topics: Where topics are looked up.
        mirror: The mirror of its cursor.
        cursor: Where it stands.
    """

    group: Group
    topics: Topics
    mirror: Mirror
    cursor: Cursor
    _producer: TransactionalProducer

    async def commit(self, part: Part) -> None:
        """Send a part and its cursor in one transaction; the mirror follows.

        Raises:
            UnavailableError: Whether it was committed is unknown; the tenure is over.
        """
        await self._producer.commit([*part.batches, part.cursor.record(self.group.cursor_topic)])
        self.cursor = part.cursor
        self.mirror.note(part.cursor)


@asynccontextmanager
async def taken_over(
    store: EventStore, group: Group, settings: KafkaSettings, lease: Lease, *, checked: bool = True
) -> AsyncIterator[Tenure]:
    """Take a group over for the length of the block.

    Args:
        store: The store.
        group: The group.
        settings: How to reach Kafka.
        lease: Its lease, which is held.
        checked: Whether the group must be one of the layout that is in force.

    Raises:
        LogMismatchError: Kafka or the log has lost what was there before.
        WrongGroupsError: The publisher is split in another way.
        HangingTransactionError: A transaction that nobody ends hides the cursor.
        TopicConfigurationError: The cursor's topic would lose it.
        UnavailableError: Kafka or PostgreSQL failed.
    """
    async with AsyncExitStack() as stack:
        topics = await stack.enter_async_context(opened_topics(settings))
        cursor_topic = (await topics.for_cursor(group.cursor_topic, group.publisher)).name
        mirror = await Mirror.found(store.database, group)
        producer = await stack.enter_async_context(started_producer(settings, group.fencing_id))
        cursor = await read_cursor(settings, group.checkpoint_name, cursor_topic)
        mirror.require_not_ahead_of(cursor.checkpoint)
        await require_on_log(store.log, group.checkpoint_name, cursor.checkpoint)
        if checked:
            layout = await require_layout(store.database, settings, topics, group, cursor)
            cursor = replace(cursor, layout=layout)
        cursor = replace(cursor, checkpoint=replace(cursor.checkpoint, epoch=lease.epoch))
        mirror.note(cursor)
        stack.push_async_callback(mirror.settle)
        yield Tenure(group, topics, mirror, cursor, producer)
