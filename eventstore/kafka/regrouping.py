"""Regrouping: splitting a publisher's work into another number of groups, without sending an event twice or never.

    1. every old group is taken over: its lease, its transactional id (whoever has it is fenced), its cursor
    2. each sends what it lacks up to the one that has come furthest
    3. the cursors of the new groups are worked out, each at that very place, with the parked streams that are its own
    4. every old group's cursor is closed
    5. each new group is taken over, and given its cursor
    6. the layout is switched, in the publisher's own cursor topic: from here on the new groups publish

What can be wrong with events, topics and parked streams shows up in 2 and 3, where nothing is changed yet: the old
groups go on as before. From 4 on only an outage or a kill can come between, and then it is run again.

Until the switch no new group publishes, because each looks at the layout; once it is closed no old group does, because
each looks at its cursor. Each looks after it has fenced everybody older, so that nobody acts upon what was true before:
whoever comes between is fenced, or fences this, which then fails.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

from eventstore.errors import LeaseLostError, LogMismatchError, TooManyUnpublishedStreamsError, WrongGroupsError
from eventstore.kafka.cursor import Cursor, Layout, find_cursor
from eventstore.kafka.group_worker import stretch_of, wanted_by
from eventstore.kafka.mirror import write_parked
from eventstore.kafka.packing import Packer, Part
from eventstore.kafka.producer import started_producer
from eventstore.kafka.stretches import read_between
from eventstore.kafka.taking_over import taken_over
from eventstore.kafka.topics import opened_topics
from eventstore.subscriptions import Checkpoints, Leases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eventstore.kafka.settings import KafkaSettings
    from eventstore.kafka.taking_over import Tenure
    from eventstore.outbox import Group, Publisher
    from eventstore.store import EventStore
    from eventstore.subscriptions import Checkpoint


async def regroup(store: EventStore, publisher: Publisher, settings: KafkaSettings) -> int | None:
    """Split a publisher into the number of groups that is declared; return how many it had.

    Instances with the old number end with an error when it is done, and those with the new one until then.

    Returns:
        The number of groups before; None when it has never published, and nothing needs to be done.

    Raises:
        WrongGroupsError: An earlier change to yet another number has closed all groups, and must come to its end.
        TooManyUnpublishedStreamsError: A new group would hold more streams back than it may; nothing was changed.
        EventStoreError: As `taken_over`, and what keeps an old group from sending what it lacks. Run it again.
    """
    async with Leases(store.database).holding(f"{publisher.checkpoint_name}/layout", seize=True):
        async with opened_topics(settings) as topics:
            await topics.for_cursor(publisher.cursor_topic, publisher)
        found = await find_cursor(settings, publisher.checkpoint_name, publisher.cursor_topic)
        if found is None:
            return None
        if found.layout.groups != publisher.groups:
            await _forget_others(
                store, publisher, found.layout.groups
            )  # a change before this was killed at its very end
            await _Change(store, publisher, settings, found.layout).carry_out()
        await _forget_others(store, publisher, publisher.groups)
        return found.layout.groups


class _Change:
    def __init__(self, store: EventStore, publisher: Publisher, settings: KafkaSettings, old: Layout) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._old = old
        self._new = Layout(publisher.groups, old.era + 1)
        self._leases = Leases(store.database)

    async def carry_out(self) -> None:
        async with AsyncExitStack() as stack:
            old_groups = self._publisher.all_groups(self._old.groups)
            tenures = [await self._take_over(group, stack) for group in old_groups]
            await self._require_unswitched()  # by somebody who was faster, before these were fenced
            await self._reopen(tenures)
            mark = max((tenure.cursor.checkpoint for tenure in tenures), key=lambda checkpoint: checkpoint.position)
            for tenure in tenures:
                await self._bring(tenure, mark)
            cursors = await self._cursors_of_new_groups(tenures)
            for tenure in tenures:
                await tenure.commit(Part([], replace(tenure.cursor, closed_for=self._new.groups), 0))
            for group, cursor in cursors.items():
                if group.of > 1:
                    await self._open(group, cursor)
            await self._switch(tenures, cursors)

    async def _take_over(self, group: Group, stack: AsyncExitStack) -> Tenure:
        lease = await stack.enter_async_context(self._leases.holding(group.checkpoint_name, seize=True))
        return await stack.enter_async_context(taken_over(self._store, group, self._settings, lease, checked=False))

    async def _reopen(self, tenures: Sequence[Tenure]) -> None:
        """Open what an earlier change closed before it was killed, unless it closed all of them.

        As long as one is open no new group has a cursor, and nobody can close that one any more without being fenced:
        the change has not begun. With all of them closed somebody may stand right before the switch.

        Raises:
            WrongGroupsError: All are closed, for another number of groups.
        """
        closed_for = {tenure.cursor.closed_for for tenure in tenures}
        if None not in closed_for:
            if others := closed_for - {self._new.groups}:
                raise WrongGroupsError(self._publisher.name, self._new.groups, others.pop() or 0, changing=True)
            return
        for tenure in tenures:
            if tenure.cursor.closed_for:
                await tenure.commit(Part([], replace(tenure.cursor, closed_for=None), 0))

    async def _bring(self, tenure: Tenure, mark: Checkpoint) -> None:
        """Send what an old group lacks up to the mark."""
        tenure.cursor = replace(tenure.cursor, layout=self._old)
        begin = tenure.cursor.checkpoint
        if begin.position == mark.position:
            return  # without a look at its topics: they do not matter to a change that has nothing to send
        packer = Packer(tenure.group, tenure.topics, tenure.cursor)
        await packer.prepare()
        batches = read_between(
            self._store.log,
            begin,
            mark,
            wanted=wanted_by(tenure.group),
            batch=stretch_of(tenure.group),
            name=tenure.group.checkpoint_name,
        )
        async with aclosing(batches):
            async for batch in batches:
                async for part in packer.split(batch.events, batch.checkpoint):
                    await tenure.commit(part)

    async def _cursors_of_new_groups(self, tenures: Sequence[Tenure]) -> dict[Group, Cursor]:
        """Return where the new groups begin, each with a topic that can take its cursor.

        Raises:
            LogMismatchError: The old groups do not stand at the same event.
            TooManyUnpublishedStreamsError: A new group would hold more streams back than it may.
            CursorTooLargeError: A new group's cursor would outgrow its topic.
            TopicConfigurationError: A topic is not what a cursor needs.
        """
        name, checkpoints = self._publisher.checkpoint_name, [tenure.cursor.checkpoint for tenure in tenures]
        if len({(checkpoint.position, checkpoint.event_id) for checkpoint in checkpoints}) > 1:
            raise LogMismatchError(
                name,
                f"its groups stand at different events at position {checkpoints[0].position}; find out which is right",
            )
        cursors = {group: self._cursor_of(group, tenures) for group in self._publisher.all_groups()}
        for group, cursor in cursors.items():
            cursor.require_room(group.name)
            await tenures[0].topics.for_cursor(group.cursor_topic, self._publisher)
        return cursors

    async def _open(self, group: Group, cursor: Cursor) -> None:
        """Give a new group its cursor."""
        async with AsyncExitStack() as stack:
            tenure = await self._take_over(group, stack)
            await self._require_unswitched()
            checkpoint = cursor.checkpoint.under(tenure.cursor.checkpoint.epoch)
            await tenure.commit(Part([], replace(cursor, checkpoint=checkpoint), 0))

    async def _switch(self, closed: Sequence[Tenure], cursors: Mapping[Group, Cursor]) -> None:
        if self._new.groups == 1:
            ((only, cursor),) = cursors.items()
            await self._open(only, cursor)
        elif self._old.groups == 1:
            (tenure,) = closed
            await tenure.commit(Part([], Cursor(layout=self._new), 0))
        else:
            async with started_producer(self._settings, self._publisher.fencing_id) as producer:
                await self._require_unswitched()
                await producer.commit([Cursor(layout=self._new).record(self._publisher.cursor_topic)])

    async def _require_unswitched(self) -> None:
        """Check, after a fencing, that nobody else has carried out the change while we were away."""
        found = await find_cursor(self._settings, self._publisher.checkpoint_name, self._publisher.cursor_topic)
        if found is None or found.layout != self._old:
            raise LeaseLostError(f"{self._publisher.checkpoint_name}/layout")

    def _cursor_of(self, group: Group, tenures: Sequence[Tenure]) -> Cursor:
        """Return where a new group begins: where all old ones stand."""
        partitions = {name: count for tenure in tenures for name, count in tenure.cursor.partitions.items()}
        parked = {
            stream_id: held
            for tenure in tenures
            for stream_id, held in tenure.cursor.parked.items()
            if group.owns(stream_id)
        }
        if len(parked) > self._publisher.max_parked:
            stream_id, held = parked.popitem()
            raise TooManyUnpublishedStreamsError(group.name, self._publisher.max_parked, stream_id, held.reason)
        return Cursor(tenures[0].cursor.checkpoint, partitions, parked, self._new)


async def _forget_others(store: EventStore, publisher: Publisher, groups: int) -> None:
    """Forget the mirrors of groups that are no more."""
    current = {group.checkpoint_name for group in publisher.all_groups(groups)}
    own = publisher.checkpoint_name
    async with store.database.transaction() as session:
        checkpoints = Checkpoints(session)
        for name, _, _ in await checkpoints.list():
            if (name == own or name.startswith(f"{own}/")) and name not in current:
                await checkpoints.delete(name)
                await write_parked(session, name.removeprefix(own.removesuffix(publisher.name)), {})
