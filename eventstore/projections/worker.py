"""The worker of a projection that is fed straight from the log: alone by lease, its checkpoint beside its tables.

waiting for the lease -> opened (tables, connection, checkpoint held against the log) -> following, batch by batch
    ^                                                                                        |
    +---- lease lost, tables replaced by a rebuild, database away (backing off) -------------+
an event that cannot be applied is what the projection's failure policy makes of it (see `failing`); a checkpoint that
does not fit the log ends the worker with that error
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from eventstore.errors import LeaseLostError, TransactionConflictError, UnavailableError
from eventstore.lifecycle import Backoff, running
from eventstore.projections.applying import ProjectionRunner
from eventstore.projections.feeds import go_on_from_log, log_lease
from eventstore.projections.persevering import Perseverance
from eventstore.projections.runs import Runs
from eventstore.projections.stretches import ALL, LogStretch
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoint, Leases, LogFollower
from eventstore.subscriptions.ahead import one_ahead
from eventstore.subscriptions.checkpoints import require_on_log
from eventstore.subscriptions.progress import Progress

if TYPE_CHECKING:
    from eventstore.projections.projection import Projection
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease

log = logging.getLogger(__name__)

BATCH: Final = 500
"""Events applied in one transaction."""


class ProjectionWorker:
    """Keeps the read model of a projection up to date from the log.

    Attributes:
        progress: How far it has come: wait on it for a position.
    """

    def __init__(self, store: EventStore, projection: Projection, *, rebuilding: bool = False) -> None:
        self._store = store
        self._rebuilding = rebuilding
        self._projection = projection
        self._name = projection.consumer_name
        self._backoff = Backoff()
        self._last = Checkpoint()
        self._runs = Runs(store, self._name, BATCH)
        self.progress = Progress(f"projection {self._name!r}")

    async def run(self) -> None:
        """Follow the log until cancelled.

        Raises:
            ProjectionFailedError: A handler failed; the read model stays before that event.
            TooManyParkedStreamsError: More streams would have to be held back than the policy allows.
            FedByKafkaError: Kafka has fed the read model since it was last built from the log.
            LogMismatchError: The checkpoint does not fit the log.
            CodecError: An event cannot be read.
        """
        with self.progress.running():
            while True:
                try:
                    async with Leases(self._store.database).holding(log_lease(self._name)) as lease:
                        await self._follow(lease)
                except (UnavailableError, LeaseLostError, TransactionConflictError) as error:
                    log.warning("projection %s starts over: %s", self._name, error)
                self.progress.enter("waiting")
                await self._backoff.wait()

    async def _follow(self, lease: Lease) -> None:
        self.progress.enter("starting")
        runner = ProjectionRunner(self._store, self._projection, rebuilding=self._rebuilding)
        async with runner.opened(), self._runs.noted(ALL):
            checkpoint = await go_on_from_log(self._store.database, lease, self._projection)
            await require_on_log(self._store.log, self._name, checkpoint)
            await require_on_log(self._store.log, self._name, self._last)  # it may be what a failover has lost
            self.progress.reached(checkpoint.position)
            self.progress.enter("working")
            checkpoint = replace(checkpoint, epoch=lease.epoch)
            wanted = LogRange(self._projection.categories, runner.event_types)
            perseverance = Perseverance(runner, self._runs, on_done=self._note_done)
            follower = LogFollower(self._store.log, checkpoint, wanted=wanted, batch=BATCH, name=self._name)
            async with one_ahead(follower, lambda batch: batch.behind > 0) as batches:
                async for batch in batches:
                    to = batch.checkpoint
                    await perseverance.apply(LogStretch(self._name, batch.events, checkpoint, to, batch.looked_at))
                    checkpoint = to

    def _note_done(self, part: LogStretch) -> None:
        self.progress.reached(part.to.position, events=len(part.events))
        self._last = part.to
        self._backoff.reset()  # not before: what fails each time it is applied must not be tried at full speed

    async def run_until_caught_up(self) -> None:
        """Follow the log up to where it is settled now, then stop.

        Raises:
            ProjectionFailedError: A handler failed; the read model stays before that event.
        """
        async with running(self.run()):
            await self.progress.caught_up(self._store.log)
