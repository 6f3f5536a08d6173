"""Feeding a projection from Kafka: handlers, offsets and stream versions in one PostgreSQL transaction.

    starting: tables and connection opened, group joined, partitions placed at the offsets in PostgreSQL
        v
    working: fetch -> drop what was seen, stop at a gap -> one transaction: handlers, offsets (compare-and-set),
        |    versions -> fetch ...
        |-- broker or database away, partition or tables taken over --> back off, start over from PostgreSQL
        |-- a handler fails --> what the projection's failure policy says (see `projections.failing`)
        |-- a record is no event --> it goes to the dead letters, if the projection has a topic for them
        '-- records are missing or not ours --> run() ends with it

A record that comes twice changes nothing: its offset was moved on in the transaction that applied it, and should the
topic itself hold an event twice, the stream's version says so.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from eventstore.errors import ConfigurationError, EventStoreError, UnavailableError
from eventstore.kafka.consuming import opened_consumer
from eventstore.kafka.dead_letters import opened_dead_letters
from eventstore.kafka.feeding import BATCH, Feed
from eventstore.kafka.places import Places
from eventstore.kafka.topics import opened_topics
from eventstore.lifecycle import Backoff
from eventstore.projections import ProjectionRunner
from eventstore.projections.runs import Runs
from eventstore.subscriptions import Progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstore.kafka.consuming import GroupConsumer
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.projections import Projection
    from eventstore.store import EventStore

log = logging.getLogger(__name__)

LONGEST_BACKOFF: Final = 1.0
"""Seconds: whatever fails, once it works again nothing is late by more."""


class KafkaProjector:
    """Keeps the read model of a projection up to date from Kafka.

    Any number of instances may run: the group spreads the partitions over them.

    Args:
        store: The store that holds the read model; it must be on PostgreSQL.
        projection: What to do with each event.
        settings: How to reach Kafka.
        topics: The topics that its events come by; each event by one of them only.
        publishers: The names of the publishers that fill the topics, if they are this store's. Then `progress` tells
            how far the read model is behind the log itself, for reading one's own writes; else behind the topics.
        group: The consumer group; when left out, one that belongs to this projection in this database alone.

    Attributes:
        progress: How far it has come: nothing up to `progress.position` is left in the partitions that it reads. It
            comes no further than the publishers: wait on it with `within=`, where they may not run.

    Raises:
        ConfigurationError: No topic is given.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection,
        settings: KafkaSettings,
        *,
        topics: Sequence[str],
        publishers: Sequence[str] = (),
        group: str | None = None,
    ) -> None:
        if not topics:
            raise ConfigurationError(f"projection {projection.name!r} needs at least one topic")
        self._store = store
        self._projection = projection
        self._settings = settings
        self._topics = tuple(dict.fromkeys(topics))
        self._name = projection.consumer_name
        self._publishers = tuple(publishers)
        self._group = group
        self._member = uuid4().hex
        self._backoff = Backoff(most=LONGEST_BACKOFF)
        self._runs = Runs(store, self._name, BATCH)
        self._consumer: GroupConsumer | None = None
        self.progress = Progress(f"projection {projection.name!r}", waits_for=_fed_by(self._publishers, self._topics))

    def __repr__(self) -> str:
        return f"KafkaProjector({self._name!r}, {self.progress.state}, position={self.progress.position})"

    async def run(self) -> None:
        """Apply events until cancelled; a cancel rolls the transaction under way back.

        Raises:
            ProjectionFailedError: A handler failed, and the policy is to stop; the read model stays before that event.
            TooManyParkedStreamsError: More streams would have to be held back than the policy allows.
            StreamGapError: An event of a stream is missing in Kafka.
            LogMismatchError: A topic no longer holds what comes next, or was deleted and made again.
            UnreadableRecordError: A record is not an event of a store, and the projection has no dead letters.
            CodecError: An event cannot be read.
        """
        with self.progress.running():
            while True:
                try:
                    await self._start_and_work()
                except EventStoreError as error:
                    if not error.retryable:
                        raise
                    log.warning("projection %s starts over: %s", self._name, error)
                finally:
                    self._consumer = None
                self.progress.enter("waiting")
                await self._backoff.wait()

    async def caught_up(self, *, within: float | None = None) -> None:
        """Return once everything is applied that is committed now in the partitions that this instance reads.

        Args:
            within: How many seconds to wait; for ever when left out, which it takes until the topics exist.

        Raises:
            NotCaughtUpError: It took longer; the projector goes on.
            EventStoreError: What `run()` ended with.
            ClosedError: `run()` was cancelled.
        """
        began = monotonic()
        await self.progress.until(lambda: self._consumer is not None and self._consumer.is_placed, within=within)
        assert self._consumer is not None  # noqa: S101 - just seen
        ends = await self._consumer.ends()
        left = None if within is None else max(0.0, within - (monotonic() - began))
        await self.progress.until(lambda: self._consumer is not None and self._consumer.has_consumed(ends), within=left)

    async def _start_and_work(self) -> None:
        self.progress.enter("starting")
        await self._require_topics()
        runner = ProjectionRunner(self._store, self._projection)
        places = Places(self._store.database, self._name)
        group = self._group or f"{self._name}.{await places.identity()}"
        runs = self._runs
        async with (
            runner.opened(),
            opened_dead_letters(self._settings, self._projection.dead_letters, self._name) as dead_letters,
            opened_consumer(self._settings, group, self._topics, self._member, on_revoked=runs.end) as consumer,
            runs.noted(),
        ):
            self._consumer = consumer
            feed = Feed(
                runner,
                consumer,
                places,
                runs,
                self.progress,
                publishers=self._publishers,
                dead_letters=dead_letters,
                on_applied=self._backoff.reset,  # an idle poll is no success: what fails may just not have come yet
            )
            while True:
                await feed.step()

    async def _require_topics(self) -> None:
        """Wait, by starting over, for topics that publishers may still have to make: subscribing could make them."""
        async with opened_topics(self._settings) as topics:
            for name in self._topics:
                if await topics.find(name) is None:
                    raise UnavailableError(f"the Kafka topic {name!r} does not exist yet")


def _fed_by(publishers: Sequence[str], topics: Sequence[str]) -> str:
    names = ", ".join(repr(name) for name in publishers or topics)
    return f"the publisher{'s' * (len(publishers) > 1)} {names}" if publishers else f"whoever fills {names}"
