"""The store in memory: the same `EventStore` over a log that lives in this process, for tests that need no database.

It keeps the log's promises: conflicts and repetitions are answered as the SQL function `append` answers them, an open
transaction is invisible to others and holds the streams that it wrote, and positions are drawn before the commit, so
that they have gaps and are settled in order. Subscriptions run: their checkpoints and leases are in `places`. What it
does not have is SQL: no `tx.connection`, no projections.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from operator import attrgetter
from typing import TYPE_CHECKING

from eventstore.clock import system_clock, uuid7
from eventstore.codec import Codec, StoredEvent
from eventstore.codec.payload import MAX_PAYLOAD_BYTES
from eventstore.db.errors import DuplicateError
from eventstore.errors import ClosedError
from eventstore.events import StreamInfo
from eventstore.lifecycle import Wakeup
from eventstore.store import AppendOutcome, AppendRequest, EventStore, LogPage, StoredSnapshot
from eventstore.store.appending import DirectAppender
from eventstore.store.log import LAST_VERSION, EventsToFold, Mark, NotOnLogError, StoredFold
from eventstore.streams import ANY, STREAM_EXISTS, category_of, slice_of
from eventstore.testing.places import PlacesSession
from eventstore.testing.shared import KeptSnapshot, Shared, SnapshotKey, Unit, committed

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.clock import Clock, IdGenerator
    from eventstore.codec import EncodedEvent
    from eventstore.store.event_store import StoreDeclaration
    from eventstore.store.log import LogRange, StreamRange


_position = attrgetter("position")


def memory_store(
    app: StoreDeclaration,
    *,
    clock: Clock = system_clock,
    new_id: IdGenerator = uuid7,
    max_payload: int = MAX_PAYLOAD_BYTES,
) -> EventStore:
    """Return an empty store in memory; `close()` it, or just forget it.

    Args:
        app: The application, whose event types the store reads and writes. Its inline projections do not run.
        clock: Gives `recorded_at`, and `occurred_at` to events that come without one.
        new_id: Gives ids to events that come without one.
        max_payload: The largest event, in bytes of JSON.
    """
    codec = Codec(app.events, clock=clock, new_id=new_id, max_payload=max_payload)
    return EventStore(MemoryBackend(clock), codec)


class MemoryLog:
    """A `Log` in memory.

    Args:
        shared: What all logs of a backend have in common.
        unit: The transaction that it works in; each call is one of its own when left out.
    """

    def __init__(self, shared: Shared, unit: Unit | None = None) -> None:
        self._shared = shared
        self._unit = unit
        self.session = PlacesSession(shared.places, unit.places if unit else None, check=self._check_open)
        self.wakeup = Wakeup()

    @property
    def reads_ahead(self) -> bool:
        """Never: in memory there is nothing to wait for."""
        return False

    async def append(self, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        """Carry out appends in their order, with the answers of the SQL function `append`; it always waits."""
        del wait
        async with self._writing() as unit:
            return [await self._append(unit, request) for request in requests]

    async def _append(self, unit: Unit, request: AppendRequest) -> AppendOutcome:
        stream_id, _, expected, events, look_up_ids = request
        if not self._stream(stream_id) and (expected > 0 or expected == STREAM_EXISTS.value):
            return AppendOutcome("wrong_version", 0, None)
        await self._shared.lock(stream_id, unit)
        recorded = self._stream(stream_id)
        fits = expected in (len(recorded), ANY.value) or (expected == STREAM_EXISTS.value and bool(recorded))
        known = self._knows(unit, stream_id, events)
        if known and (look_up_ids or not fits):
            return AppendOutcome("ids_known", len(recorded), None)
        if not fits:
            return AppendOutcome("wrong_version", len(recorded), None)
        if known or len({event.event_id for event in events}) < len(events):
            raise DuplicateError("events_event_id_key")
        return self._insert(unit, stream_id, recorded, events)

    def _knows(self, unit: Unit, stream_id: str, events: Sequence[EncodedEvent]) -> bool:
        own = {event.event_id for event in unit.events.get(stream_id, ())}
        return any(event.event_id in own or (stream_id, event.event_id) in self._shared.ids for event in events)

    def _insert(
        self, unit: Unit, stream_id: str, recorded: Sequence[StoredEvent], events: Sequence[EncodedEvent]
    ) -> AppendOutcome:
        shared = self._shared
        if unit.floor is None:
            unit.floor = shared.drawn
        now = shared.clock()
        if recorded:
            now = max(now, recorded[-1].recorded_at)
        own = unit.events.setdefault(stream_id, [])
        for version, event in enumerate(events, start=len(recorded) + 1):
            shared.drawn += 1
            own.append(StoredEvent(shared.drawn, stream_id, version, *event[:-1], recorded_at=now))
        return AppendOutcome("appended", own[-1].stream_version, own[-1].position)

    async def events_by_ids(self, stream_id: str, event_ids: Sequence[UUID]) -> list[StoredEvent]:
        """Return the stream's events that have one of these ids, by version."""
        wanted = set(event_ids)
        return [event for event in self._stream(stream_id) if event.event_id in wanted]

    async def read_stream(self, wanted: StreamRange, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events of a range."""
        events = self._stream(wanted.stream_id)[wanted.from_version - 1 : wanted.to_version]
        in_order = reversed(events) if wanted.backwards else events
        return list(islice((event for event in in_order if _is_in(event, wanted)), limit))

    async def high_water(self) -> int:
        """Return the position up to which nothing can appear late."""
        self._check_open()
        floors = [unit.floor for unit in self._shared.open if unit.floor is not None]
        return min([self._shared.drawn, *floors])

    async def last_drawn(self) -> int:
        """Return the last position handed out."""
        self._check_open()
        return self._shared.drawn

    async def read_all(self, wanted: LogRange, after: int, up_to: int, limit: int) -> LogPage:
        """Return the wanted ones among the next `limit` events after a position."""
        log = self._log()
        first = bisect_right(log, after, key=_position)
        looked_at = log[first : min(first + limit, bisect_right(log, up_to, key=_position))]
        if not looked_at:
            return LogPage([], None, None, full=False)
        last = looked_at[-1]
        events = [event for event in looked_at if _is_among(event, wanted)]
        return LogPage(events, last.position, last.event_id, full=len(looked_at) == limit)

    async def settled(self) -> Mark:
        """Return the same for a reader that stays."""
        return Mark(await self.high_water(), drawn=await self.last_drawn())

    async def read_on(self, wanted: LogRange, after: int, event_id: UUID | None, up_to: Mark, limit: int) -> LogPage:
        """Return the wanted ones among the next `limit` events behind an event, if that is there."""
        if event_id is not None and await self.event_at(after) != event_id:
            raise NotOnLogError
        return await self.read_all(wanted, after, up_to.position, limit)

    async def last_event(self, up_to: int) -> tuple[int, UUID] | None:
        """Return the position and the id of the last event at or before a position."""
        log = self._log()
        index = bisect_right(log, up_to, key=_position) - 1
        return (log[index].position, log[index].event_id) if index >= 0 else None

    async def first_recorded(self, since: datetime, up_to: int) -> int | None:
        """Return the position of the first event that was recorded at a time or later."""
        found = (event.position for event in self._log() if event.recorded_at >= since and event.position <= up_to)
        return next(found, None)

    async def event_at(self, position: int) -> UUID | None:
        """Return the id of the event at a position."""
        log = self._log()
        index = bisect_right(log, position, key=_position) - 1
        return log[index].event_id if index >= 0 and log[index].position == position else None

    async def stream_info(self, stream_id: str) -> StreamInfo | None:
        """Return a stream at a glance."""
        events = self._stream(stream_id)
        return _info(events) if events else None

    async def list_streams(self, after: str, category: str | None, limit: int) -> list[StreamInfo]:
        """Return streams in the order of their ids."""
        own = self._unit.events if self._unit else {}
        names = sorted(
            name
            for name in self._shared.streams.keys() | own.keys()
            if name > after and category in (None, category_of(name))
        )
        self._check_open()
        return [_info(self._stream(name)) for name in names[:limit]]

    # --- snapshots -----------------------------------------------------------------------------------------------

    async def load_folded(
        self, stream_id: str, fingerprint: str, to_version: int, limit: int, *, from_version: int = 1
    ) -> StoredFold:
        """Return the snapshot of a shape, if there is one, and the events from its version (inclusive) on."""
        kept = self._snapshot((stream_id, fingerprint))
        snapshot = kept[0] if kept and kept[0].stream_version <= to_version else None
        first = snapshot.stream_version if snapshot else from_version
        events = self._stream(stream_id)[first - 1 : min(to_version, first - 1 + limit)]
        return StoredFold(snapshot, EventsToFold.of(events))

    async def load_many(self, stream_ids: Sequence[str], fingerprint: str, limit: int) -> dict[str, StoredFold]:
        """Return the same for many streams, at most `limit` events of each, without those that do not exist."""
        found = {stream: await self.load_folded(stream, fingerprint, LAST_VERSION, limit) for stream in stream_ids}
        return {stream_id: fold for stream_id, fold in found.items() if fold.snapshot or fold.events}

    async def save_snapshot(self, stream_id: str, fingerprint: str, snapshot: StoredSnapshot) -> None:
        """Keep a snapshot, unless a later one of the same shape is there."""
        async with self._writing() as unit:
            kept = self._snapshot((stream_id, fingerprint))
            if kept is None or kept[0].stream_version < snapshot.stream_version:
                unit.snapshots[stream_id, fingerprint] = (snapshot, self._shared.clock())

    async def snapshot_versions(self, stream_ids: Sequence[str], fingerprint: str) -> dict[str, tuple[int, datetime]]:
        """Return, for those of the streams that have a snapshot of this shape, its version and when it was taken."""
        found = ((stream_id, self._snapshot((stream_id, fingerprint))) for stream_id in stream_ids)
        return {stream_id: (kept[0].stream_version, kept[1]) for stream_id, kept in found if kept}

    async def delete_snapshots(self, stream_id: str) -> None:
        """Forget a stream's snapshots."""
        async with self._writing() as unit:
            for key in [*self._shared.snapshots, *unit.snapshots]:
                if key[0] == stream_id:
                    unit.snapshots[key] = None

    # --- what a transaction sees: what is committed, and what is its own -------------------------------------------

    def _stream(self, stream_id: str) -> Sequence[StoredEvent]:
        self._check_open()
        committed = self._shared.streams.get(stream_id, [])
        own = self._unit.events.get(stream_id) if self._unit else None
        return [*committed, *own] if own else committed

    def _log(self) -> Sequence[StoredEvent]:
        self._check_open()
        if self._unit is None or not self._unit.events:
            return self._shared.log
        own = (event for events in self._unit.events.values() for event in events)
        return sorted([*self._shared.log, *own], key=_position)

    def _snapshot(self, key: SnapshotKey) -> KeptSnapshot | None:
        self._check_open()
        if self._unit and key in self._unit.snapshots:
            return self._unit.snapshots[key]
        return self._shared.snapshots.get(key)

    def _check_open(self) -> None:
        if not self._shared.is_open:
            raise ClosedError("store")
        if self._unit is not None and self._unit.ended.is_set():
            raise ClosedError("transaction")

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator[Unit]:
        """Work in the log's transaction, or in one that ends with the block."""
        self._check_open()
        if self._unit is not None:
            yield self._unit
            return
        async with committed(self._shared) as unit:
            yield unit


class MemoryBackend:
    """The log in memory and its transactions.

    Args:
        clock: Gives `recorded_at`.
    """

    database = None

    def __init__(self, clock: Clock = system_clock) -> None:
        self._shared = Shared(clock)
        self.log = MemoryLog(self._shared)

    def appender(self, codec: Codec) -> DirectAppender:
        """Return what the store's own appends go through: there is no round trip to share."""
        return DirectAppender(self.log, codec)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[tuple[MemoryLog, None]]:
        """Open a transaction; it has no connection."""
        async with committed(self._shared) as unit:
            yield MemoryLog(self._shared, unit), None

    async def has_committed(self, written: Mapping[str, Sequence[UUID]], reason: str) -> bool:  # noqa: ARG002 - port
        """Find out whether a transaction happened; in memory no answer is ever lost."""
        for stream_id, event_ids in written.items():
            if not await self.log.events_by_ids(stream_id, event_ids):
                return False
        return True

    def close(self) -> None:
        """Refuse further calls."""
        self._shared.is_open = False


def _is_in(event: StoredEvent, wanted: StreamRange) -> bool:
    return (
        (wanted.event_types is None or event.event_type in wanted.event_types)
        and (wanted.occurred_until is None or event.occurred_at <= wanted.occurred_until)
        and (wanted.recorded_until is None or event.recorded_at <= wanted.recorded_until)
    )


def _is_among(event: StoredEvent, wanted: LogRange) -> bool:
    return (
        (wanted.categories is None or category_of(event.stream_id) in wanted.categories)
        and (wanted.event_types is None or event.event_type in wanted.event_types)
        and (wanted.recorded_from is None or event.recorded_at >= wanted.recorded_from)
        and (wanted.slices is None or wanted.slices[0] <= slice_of(event.stream_id) <= wanted.slices[1])
    )


def _info(events: Sequence[StoredEvent]) -> StreamInfo:
    first, last = events[0], events[-1]
    return StreamInfo(
        first.stream_id, category_of(first.stream_id), last.stream_version, first.recorded_at, last.recorded_at
    )
