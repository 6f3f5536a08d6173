"""Publishing for one group: from the log to Kafka, as long as its lease is held.

    starting: the group is taken over (see `taking_over`); from here on everybody older is fenced
        v
    working: one transaction after the other, each with its records and the cursor; the next part is packed and the
        |    one after it fetched meanwhile; after the commits the mirror follows
        |-- any error or time-out --> the producer is given up, back off, start over with the lease
        '-- what no retry can mend (a missing topic, a message too large, lost records) --> it ends with that

Nothing is inferred from an exception: whether a transaction was committed is what the cursor says at the next start.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, aclosing
from typing import TYPE_CHECKING, Final

from eventstore.errors import EventStoreError
from eventstore.kafka.packing import Packer, Part, Ways
from eventstore.kafka.relaying import Relay
from eventstore.kafka.taking_over import taken_over
from eventstore.lifecycle import Backoff, running
from eventstore.store.log import LogRange
from eventstore.subscriptions import LogFollower, Progress
from eventstore.subscriptions.ahead import one_ahead

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Group
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease

log = logging.getLogger(__name__)

LONGEST_BACKOFF: Final = 1.0
"""Seconds: whatever fails, once it works again nothing is late by more."""


class GroupWorker:
    """Publishes the events of one group.

    Args:
        store: The store.
        group: The group.
        settings: How to reach Kafka.
        progress: Hears how far it has come.
        ways: The memory of ways, for workers of other groups that share it.
    """

    def __init__(
        self,
        store: EventStore,
        group: Group,
        settings: KafkaSettings,
        progress: Progress,
        ways: Ways | None = None,
    ) -> None:
        self._store = store
        self._group = group
        self._settings = settings
        self._ways: Ways = {} if ways is None else ways
        self._backoff = Backoff(most=LONGEST_BACKOFF)
        self.progress = progress

    async def work(self, lease: AbstractAsyncContextManager[Lease]) -> None:
        """Publish once the lease is held, until something fails that a retry can mend; then back off.

        Raises:
            MissingTopicError: A topic does not exist, and may not be created.
            TopicConfigurationError: A topic would lose or reorder events.
            MessageTooLargeError: An event is larger than its topic accepts; everything before it was published.
            UnroutableEventError: An event has no topic; the same.
            TooManyUnpublishedStreamsError: More streams would be parked than may be; the same.
            CursorTooLargeError: More would be parked, or more topics be published to, than the cursor has room for.
            WrongGroupsError: The publisher is split in another way.
            LogMismatchError: Kafka or the log has lost what was there before.
            HangingTransactionError: A transaction that nobody ends hides the cursor.
        """
        self.progress.enter("waiting")
        try:
            async with lease as held:
                await self._publish_under(held)
        except EventStoreError as error:
            if not error.retryable:
                raise
            log.warning("publisher %s starts over: %s", self._group.name, error)
        self.progress.enter("waiting")
        await self._backoff.wait()

    async def _publish_under(self, lease: Lease) -> None:
        self.progress.enter("starting")
        async with AsyncExitStack() as stack:
            tenure = await stack.enter_async_context(taken_over(self._store, self._group, self._settings, lease))
            packer = Packer(self._group, tenure.topics, tenure.cursor, self._ways)
            await packer.prepare()
            start = tenure.cursor.checkpoint
            follower = LogFollower(
                self._store.log,
                start,
                wanted=wanted_by(self._group),
                batch=stretch_of(self._group),
                name=self._group.checkpoint_name,
            )
            batches = await stack.enter_async_context(one_ahead(follower, lambda batch: batch.behind > 0))
            packed = await stack.enter_async_context(aclosing(packer.parts(batches)))
            parts = await stack.enter_async_context(one_ahead(packed, lambda _: batches.is_ahead))
            await stack.enter_async_context(running(tenure.mirror.keep()))
            self.progress.reached(start.position)
            self.progress.enter("working")

            def note_commit(part: Part) -> None:
                self.progress.reached(part.cursor.checkpoint.position, events=part.events)
                self._backoff.reset()

            relay = Relay(
                tenure,
                finish_within=self._settings.answer_within,
                on_commit=note_commit,
                on_passed=lambda part: self.progress.reached(part.cursor.checkpoint.position),
            )
            await relay.run(parts)


def wanted_by(group: Group) -> LogRange:
    """Return which events of the log a group publishes."""
    return LogRange(categories=group.publisher.categories, slices=group.slices)


def stretch_of(group: Group) -> int:
    """Return how many events of the log are looked at for one transaction: on average one in each group is wanted."""
    return group.publisher.batch * group.of
