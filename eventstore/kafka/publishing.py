"""Publishing: from the log to Kafka, each event once, in the order of its stream, through every crash.

    waiting for the lease
        | held: read the mirror in PostgreSQL
        v
    starting: a new producer under the one transactional id; from here on everybody older is fenced
        | read the cursor, up to the topic's high watermark; hold it against the mirror and the log
        v
    working: one transaction after the other, each with its records and the cursor; the next part is fetched and
        |    packed meanwhile; after each commit the mirror follows
        |-- any error or time-out --> the producer is given up, back off, start over with the lease
        '-- what no retry can mend (a missing topic, a message too large, lost records) --> run() ends with it

Nothing is inferred from an exception: whether a transaction was committed is what the cursor says at the next start.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from eventstore.errors import EventStoreError
from eventstore.kafka.ahead import one_ahead
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.mirror import Mirror
from eventstore.kafka.packing import Packer, Part
from eventstore.kafka.producer import started_producer
from eventstore.kafka.relaying import Relay
from eventstore.kafka.topics import opened_topics
from eventstore.lifecycle import Backoff, running
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoints, Leases, LogFollower, Progress
from eventstore.subscriptions.checkpoints import require_on_log

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Publisher
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease

log = logging.getLogger(__name__)


class KafkaPublisher:
    """Publishes the events of a store to Kafka, exactly once for readers of committed records.

    Any number of instances may run: one publishes, the others wait for its lease.

    Args:
        store: The store; it must be on PostgreSQL.
        publisher: What to publish, and where.
        settings: How to reach Kafka.

    Example:
        publisher = KafkaPublisher(store, Publisher("orders", categories=["order"]), KafkaSettings("localhost:9092"))
        await publisher.run()

    Attributes:
        progress: How far it has come: everything wanted up to `progress.position` is committed in Kafka.
    """

    def __init__(self, store: EventStore, publisher: Publisher, settings: KafkaSettings) -> None:
        self._log = store.log
        self._publisher = publisher
        self._settings = settings
        self._name = publisher.checkpoint_name
        self._leases = Leases(store.database)
        self._checkpoints = Checkpoints(store.database)
        self._backoff = Backoff()
        self.progress = Progress(f"publisher {publisher.name!r}")

    def __repr__(self) -> str:
        return f"KafkaPublisher({self._publisher.name!r}, {self.progress.state}, position={self.progress.position})"

    async def run(self) -> None:
        """Publish until cancelled; a cancel lets the transaction under way finish, and gives the lease back.

        Raises:
            MissingTopicError: A topic does not exist, and may not be created.
            TopicConfigurationError: A topic would lose or reorder events.
            MessageTooLargeError: An event is larger than its topic accepts; everything before it was published.
            LogMismatchError: Kafka or the log has lost what was there before.
            HangingTransactionError: A transaction that nobody ends hides the cursor.
        """
        with self.progress.running():
            while True:
                self.progress.enter("waiting")
                try:
                    async with self._leases.holding(self._name) as lease:
                        await self._publish_under(lease)
                except EventStoreError as error:
                    if not error.retryable:
                        raise
                    log.warning("publisher %s starts over: %s", self._publisher.name, error)
                self.progress.enter("waiting")
                await self._backoff.wait()

    async def _publish_under(self, lease: Lease) -> None:
        self.progress.enter("starting")
        async with AsyncExitStack() as stack:
            topics = await stack.enter_async_context(opened_topics(self._settings))
            cursor_topic = (await topics.for_cursor(self._publisher)).name
            # Read before the fencing: nobody older can then have moved it ahead of the cursor that we shall see.
            mirror = Mirror(self._checkpoints, self._name, await self._checkpoints.load(self._name))
            producer = await stack.enter_async_context(started_producer(self._settings, self._publisher.fencing_id))
            cursor = await read_cursor(self._settings, self._name, cursor_topic)
            mirror.require_not_ahead_of(cursor.checkpoint)
            await require_on_log(self._log, self._name, cursor.checkpoint)
            packer = Packer(self._publisher, topics, cursor.partitions)
            await packer.prepare()

            start = replace(cursor.checkpoint, epoch=lease.epoch)
            mirror.note(start)
            stack.push_async_callback(mirror.settle)
            follower = LogFollower(
                self._log, start, wanted=self._wanted(), batch=self._publisher.batch, name=self._name
            )
            parts = await stack.enter_async_context(one_ahead(packer.parts(follower)))
            await stack.enter_async_context(running(mirror.keep()))
            self.progress.reached(start.position)
            self.progress.enter("working")

            def note_commit(part: Part) -> None:
                mirror.note(part.checkpoint)
                self.progress.reached(part.checkpoint.position, events=part.events)
                self._backoff.reset()

            relay = Relay(
                producer,
                cursor_topic=cursor_topic,
                partitions=packer.partitions,
                finish_within=self._settings.answer_within,
                on_commit=note_commit,
                on_passed=lambda part: self.progress.reached(part.checkpoint.position),
            )
            await relay.run(parts)

    def _wanted(self) -> LogRange:
        return LogRange(categories=self._publisher.categories)
