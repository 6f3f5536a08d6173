"""The layout: into how many groups a publisher is split. Kafka says so, and no declaration can change it by itself.

The publisher's own cursor topic has the last word. Its last record is either the cursor of the only group, or, of
several groups, a cursor that says nothing but the layout (each group then has a topic for its cursor). Whoever works
for a group asks after it has fenced everybody older, so that a layout which is closed meanwhile is seen in the group's
own cursor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.errors import LogMismatchError, WrongGroupsError
from eventstore.kafka.cursor import Cursor, Layout, find_cursor
from eventstore.kafka.producer import started_producer
from eventstore.subscriptions import Checkpoints, Leases

if TYPE_CHECKING:
    from eventstore.db import Database
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.kafka.topics import Topics
    from eventstore.outbox import Group, Publisher


async def require_layout(
    database: Database, settings: KafkaSettings, topics: Topics, group: Group, cursor: Cursor
) -> Layout:
    """Return the layout in force, which a group belongs to; a publisher that is new gets the one that is declared.

    Args:
        database: Where mirrors are kept.
        settings: How to reach Kafka.
        topics: Where topics are looked up.
        group: The group, whose older workers are fenced.
        cursor: Its cursor, read after that.

    Raises:
        WrongGroupsError: The publisher is split in another way, or is being so.
        LogMismatchError: Kafka has lost what it knew of this publisher.
    """
    publisher = group.publisher
    if cursor.closed_for is not None:
        raise WrongGroupsError(publisher.name, group.of, cursor.closed_for, changing=True)
    if group.of == 1:
        layout = cursor.layout
        if not cursor.checkpoint.position and layout == Layout():
            await _require_new(database, publisher, but=group.checkpoint_name)
    else:
        base = (await topics.for_cursor(publisher.cursor_topic, publisher)).name
        found = await find_cursor(settings, publisher.checkpoint_name, base)
        layout = found.layout if found else await _begin(database, settings, publisher, group.of)
        if found and found.closed_for is not None:
            raise WrongGroupsError(publisher.name, group.of, found.closed_for, changing=True)
    if layout.groups != group.of:
        raise WrongGroupsError(publisher.name, group.of, layout.groups)
    if layout.era > 1 and cursor.layout != layout:
        raise LogMismatchError(group.checkpoint_name, "the cursor that it was given by `regroup` is gone from Kafka")
    return layout


async def _begin(database: Database, settings: KafkaSettings, publisher: Publisher, groups: int) -> Layout:
    """Write the first layout, unless somebody else has done so meanwhile."""
    # Without the lease all groups would do this at once, and fence each other for a while.
    async with (
        Leases(database).holding(f"{publisher.checkpoint_name}/layout"),
        started_producer(settings, publisher.fencing_id) as producer,
    ):
        found = await find_cursor(settings, publisher.checkpoint_name, publisher.cursor_topic)
        if found is None:
            await _require_new(database, publisher)
            found = Cursor(layout=Layout(groups))
            await producer.commit([found.record(publisher.cursor_topic)])
    return found.layout


async def _require_new(database: Database, publisher: Publisher, *, but: str | None = None) -> None:
    """Check that PostgreSQL has never heard of a publisher of which Kafka knows nothing."""
    for name, checkpoint, _ in await Checkpoints(database).list():
        is_its = name == publisher.checkpoint_name or name.startswith(f"{publisher.checkpoint_name}/")
        if is_its and name != but and checkpoint.position:
            raise LogMismatchError(
                name,
                f"it was published up to position {checkpoint.position}, but Kafka knows nothing of it: Kafka has lost "
                "records (or this is another cluster); publish everything again under another name, or restore the "
                "topics",
            )
