"""The snapshot manager: follows the log and folds the streams that their policy calls due, off the append path.

It needs no memory of its own: how far a stream lies behind its snapshot is read from the snapshot. So it can run inside
a service or as a worker, stop at any time, and start on a log of any age; a lease keeps it alone, because two would do
the same work twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import LeaseLostError, TransactionConflictError, UnavailableError
from eventstore.lifecycle import Backoff, running
from eventstore.snapshots.policies import Lag, Policy
from eventstore.snapshots.taking import take_snapshot
from eventstore.store.log import LogRange
from eventstore.streams import category_of
from eventstore.subscriptions import Checkpoints, Leases, LogFollower
from eventstore.subscriptions.checkpoints import require_on_log
from eventstore.subscriptions.progress import Progress

if TYPE_CHECKING:
    from pydantic import BaseModel

    from eventstore.aggregates import Shape
    from eventstore.codec import StoredEvent
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease

log = logging.getLogger(__name__)

_AT_ONCE: Final = 4
"""Streams folded at the same time."""


def snapshots_checkpoint(name: str) -> str:
    """Return the name of a snapshot manager's lease and checkpoint."""
    return f"snapshots:{name}"


class SnapshotManager:
    """Keeps the snapshots of some aggregates fresh.

    Args:
        store: The store.
        policies: For each shape of aggregate, when its streams are due.
        name: Names its lease and checkpoint: the application's name.

    Attributes:
        progress: How far along the log it has come, and how many snapshots it has taken.
    """

    def __init__(self, store: EventStore, policies: Mapping[Shape[Any], Policy], *, name: str) -> None:
        self._store = store
        self._by_category = {shape.category: (shape, policy) for shape, policy in policies.items()}
        self._name = snapshots_checkpoint(name)
        self._costly: asyncio.Queue[str] = asyncio.Queue(maxsize=1000)
        self._backoff = Backoff()
        self.progress = Progress(self._name)

    async def run(self) -> None:
        """Follow the log, and the loads of this process, until cancelled.

        Raises:
            CodecError: An event cannot be read.
            LogMismatchError: The checkpoint does not fit the log.
        """
        self._store.on_load.append(self._notice_load)
        try:
            with self.progress.running():
                async with running(self._fold_costly_ones()):
                    await self._follow_with_lease()
        finally:
            self._store.on_load.remove(self._notice_load)

    async def _follow_with_lease(self) -> None:
        while True:
            try:
                async with Leases(self._store.database).holding(self._name) as lease:
                    await self._follow(lease)
            except (UnavailableError, LeaseLostError, TransactionConflictError) as error:
                log.warning("%s starts over: %s", self._name, error)
            self.progress.enter("waiting")
            await self._backoff.wait()

    async def _follow(self, lease: Lease) -> None:
        checkpoints = Checkpoints(self._store.database)
        checkpoint = await checkpoints.load(self._name)
        await require_on_log(self._store.log, self._name, checkpoint)
        self.progress.reached(checkpoint.position)
        self.progress.enter("working")
        checkpoint = replace(checkpoint, epoch=lease.epoch)
        wanted = LogRange(categories=list(self._by_category))
        async for batch in LogFollower(self._store.log, checkpoint, wanted=wanted, name=self._name):
            taken = await self.fold_due(batch.events)
            await checkpoints.advance(self._name, since=checkpoint, to=batch.checkpoint)
            checkpoint = batch.checkpoint
            self.progress.reached(checkpoint.position, events=taken)
            self._backoff.reset()  # not before: what fails each time must not be tried at full speed

    async def fold_due(self, events: Sequence[StoredEvent]) -> int:
        """Fold the streams of these events that are due now; returns how many snapshots were taken."""
        due = [stream for stream in await self._lags(events) if self._is_due(*stream)]
        for start in range(0, len(due), _AT_ONCE):
            try:
                async with asyncio.TaskGroup() as group:
                    for stream_id, _ in due[start : start + _AT_ONCE]:
                        shape, _ = self._by_category[category_of(stream_id)]
                        group.create_task(take_snapshot(self._store, shape, stream_id))
            except ExceptionGroup as failures:  # several at once when the database goes away: one says it
                raise failures.exceptions[0] from None
        return len(due)

    def _is_due(self, stream_id: str, lag: Lag) -> bool:
        _, policy = self._by_category[category_of(stream_id)]
        return policy(lag)

    async def _lags(self, events: Sequence[StoredEvent]) -> list[tuple[str, Lag]]:
        """Return how each stream of a batch stands against its snapshot, as of its last event in the batch."""
        by_stream: dict[str, list[StoredEvent]] = defaultdict(list)
        for event in events:
            by_stream[event.stream_id].append(event)
        lags = []
        for category, (shape, _) in self._by_category.items():
            streams = [stream_id for stream_id in by_stream if category_of(stream_id) == category]
            if not streams:
                continue
            fingerprint = shape.fingerprint(self._store.event_types)
            known = await self._store.log.snapshot_versions(streams, fingerprint)
            lags += [(stream_id, self._lag(by_stream[stream_id], known.get(stream_id))) for stream_id in streams]
        return lags

    def _lag(self, arrived: Sequence[StoredEvent], snapshot: tuple[int, datetime] | None) -> Lag:
        version, taken_at = snapshot or (0, None)
        last = arrived[-1]
        age: timedelta | None = last.recorded_at - taken_at if taken_at is not None else None
        models = (self._model(event) for event in arrived if event.stream_version > version)
        return Lag(max(0, last.stream_version - version), age, frozenset(m for m in models if m is not None))

    def _model(self, event: StoredEvent) -> type[BaseModel] | None:
        event_type = self._store.event_types.named(event.event_type)
        return event_type.model if event_type else None

    def _notice_load(self, stream_id: str, replayed: int, seconds: float, bad_snapshot: bool = False) -> None:  # noqa: FBT002 - a callback
        entry = self._by_category.get(category_of(stream_id))
        if entry is None or replayed == 0 or self._costly.full():
            return
        _, policy = entry
        if bad_snapshot or policy(Lag(events=0, load_seconds=seconds)):
            self._costly.put_nowait(stream_id)

    async def _fold_costly_ones(self) -> None:
        """Fold what was slow to load in this process, or had a snapshot of no use, with or without the lease."""
        while True:
            stream_id = await self._costly.get()
            shape, _ = self._by_category[category_of(stream_id)]
            try:
                await take_snapshot(self._store, shape, stream_id)
            except UnavailableError:
                continue  # the next load will tell again
