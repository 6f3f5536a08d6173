"""What a store in memory consists of: what is committed, what open transactions have written, who waits for whom."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from eventstore.errors import ClosedError, TransactionConflictError
from eventstore.store import StoredSnapshot
from eventstore.testing.places import Place, Places

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.clock import Clock
    from eventstore.codec import StoredEvent

SnapshotKey = tuple[str, str]
KeptSnapshot = tuple[StoredSnapshot, "datetime"]

_position = attrgetter("position")


@dataclass(eq=False)
class Unit:
    """What one transaction has written and not yet committed.

    Attributes:
        events: Its events, by stream.
        places: The checkpoints that it has moved.
        snapshots: Its snapshots; None for those that it deleted.
        floor: The last position drawn before its own first one.
        waits_for: Whose stream it waits for now.
        ended: Set when it has committed or was rolled back.
    """

    events: dict[str, list[StoredEvent]] = field(default_factory=dict)
    places: dict[str, Place] = field(default_factory=dict)
    snapshots: dict[SnapshotKey, KeptSnapshot | None] = field(default_factory=dict)
    floor: int | None = None
    waits_for: Unit | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Shared:
    """What is committed, and who is at work."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.streams: dict[str, list[StoredEvent]] = {}
        self.log: list[StoredEvent] = []
        self.ids: set[tuple[str, UUID]] = set()
        self.snapshots: dict[SnapshotKey, KeptSnapshot] = {}
        self.places = Places()
        self.drawn = 0
        self.writers: dict[str, Unit] = {}
        self.open: set[Unit] = set()
        self.is_open = True

    def begin(self) -> Unit:
        """Begin a transaction."""
        if not self.is_open:
            raise ClosedError("store")
        unit = Unit()
        self.open.add(unit)
        return unit

    def commit(self, unit: Unit) -> None:
        """Let everybody see what a transaction has written."""
        last = self.log[-1].position if self.log else 0
        for stream_id, events in unit.events.items():
            self.streams.setdefault(stream_id, []).extend(events)
            self.log.extend(events)
            self.ids.update((stream_id, event.event_id) for event in events)
        if len(unit.events) > 1 or (unit.floor is not None and unit.floor < last):
            self.log.sort(key=_position)
        self.places.checkpoints.update(unit.places)
        for key, snapshot in unit.snapshots.items():
            if snapshot is None:
                self.snapshots.pop(key, None)
            else:
                self.snapshots[key] = snapshot

    def end(self, unit: Unit) -> None:
        """Let go of what a transaction holds, committed or not."""
        self.open.discard(unit)
        self.writers = {stream_id: writer for stream_id, writer in self.writers.items() if writer is not unit}
        unit.ended.set()

    async def lock(self, stream_id: str, unit: Unit) -> None:
        """Wait until nobody else writes a stream, and keep it to the end of the transaction.

        Raises:
            TransactionConflictError: Its writer waits for this transaction already.
        """
        while (writer := self.writers.get(stream_id)) not in (None, unit):
            assert writer is not None  # noqa: S101 - for the type checker
            if unit in _chain(writer):
                raise TransactionConflictError("deadlock detected: run the whole transaction again")
            unit.waits_for = writer
            try:
                await writer.ended.wait()
            finally:
                unit.waits_for = None
        self.writers[stream_id] = unit


def _chain(unit: Unit | None) -> Iterator[Unit]:
    """Yield a transaction, the one that it waits for, and so on."""
    while unit is not None:
        yield unit
        unit = unit.waits_for


@asynccontextmanager
async def committed(shared: Shared) -> AsyncIterator[Unit]:
    """Commit what the block writes at its end; an exception undoes it."""
    unit = shared.begin()
    try:
        yield unit
        shared.commit(unit)
    finally:
        shared.end(unit)
