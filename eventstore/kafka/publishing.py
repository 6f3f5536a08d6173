"""Publishing: from the log to Kafka, each event once, in the order of its stream, through every crash.

KafkaPublisher: of one group, its lease is waited for --> GroupWorker
of several, they are shared out among the instances (see `sharing`) --> a GroupWorker for each
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.kafka.group_worker import GroupWorker
from eventstore.kafka.sharing import Sharing
from eventstore.subscriptions import Leases, Progress
from eventstore.subscriptions.leases import LEASE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Publisher
    from eventstore.store import EventStore


class KafkaPublisher:
    """Publishes the events of a store to Kafka, exactly once for readers of committed records.

    Any number of instances may run: for each group of the publisher one publishes at a time.

    Args:
        store: The store; it must be on PostgreSQL.
        publisher: What to publish, and where.
        settings: How to reach Kafka.
        lease_seconds: How long the work of an instance that died waits for another one.

    Example:
        publisher = KafkaPublisher(store, Publisher("orders", categories=["order"]), KafkaSettings("localhost:9092"))
        await publisher.run()

    Attributes:
        progress: How far it has come: everything wanted up to `progress.position` is committed in Kafka, but for what
            is parked. Of several groups, that is where the last one of them stands, whoever works for it.
    """

    def __init__(
        self,
        store: EventStore,
        publisher: Publisher,
        settings: KafkaSettings,
        *,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._store = store
        self._publisher = publisher
        self._settings = settings
        self._leases = Leases(store.database, seconds=lease_seconds)
        self.progress = Progress(f"publisher {publisher.name!r}")
        self._sharing: Sharing | None = None
        if publisher.groups > 1:
            self._sharing = Sharing(store, publisher, settings, self._leases, self.progress)

    def __repr__(self) -> str:
        return f"KafkaPublisher({self._publisher.name!r}, {self.progress.state}, position={self.progress.position})"

    @property
    def groups(self) -> Mapping[str, Progress]:
        """How far it has come with each of its groups, by the names of their checkpoints."""
        return {self._publisher.checkpoint_name: self.progress} if self._sharing is None else self._sharing.groups

    @property
    def groups_held(self) -> int:
        """For how many groups this instance works now."""
        return int(self.progress.state == "working") if self._sharing is None else self._sharing.groups_held

    async def run(self) -> None:
        """Publish until cancelled; a cancel lets the transaction under way finish, and gives the lease back.

        Raises:
            EventStoreError: What no retry can mend; see `GroupWorker.work`.
        """
        with self.progress.running():
            if self._sharing is not None:
                await self._sharing.run()
            (group,) = self._publisher.all_groups()
            worker = GroupWorker(self._store, group, self._settings, self.progress)
            while True:
                await worker.work(self._leases.holding(group.checkpoint_name))
