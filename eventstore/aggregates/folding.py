"""The engine under both styles of aggregate: fold a stream's events into a state, from a snapshot where there is one.

A snapshot is a cache. One that is missing, outdated, unreadable, or made on a history that this log does not have
never changes a result: the stream is replayed from its beginning instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from pydantic import BaseModel, TypeAdapter

from eventstore.codec import Selection
from eventstore.codec.selection import models_of
from eventstore.errors import InvalidArgumentError
from eventstore.events import BEGINNING, Position, in_utc
from eventstore.store.log import LAST_VERSION, EventsToFold, StoredFold, StoredSnapshot, StreamRange
from eventstore.store.reading import PAGE, Ahead, StreamSource
from eventstore.streams import StreamId

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.codec import EventTypes, StoredEvent
    from eventstore.store import Log, Operations

S = TypeVar("S")

TOGETHER: Final = 200
"""Streams that are loaded in one round trip."""
OF_EACH: Final = 100
"""Events of each of them that come with it: most aggregates are small, and together they must not become too large."""


@dataclass(frozen=True, eq=False)
class Shape(Generic[S]):
    """How the streams of a category fold: everything that a snapshot of them depends on.

    Attributes:
        category: The category of the streams.
        state_type: The type of the state; pydantic writes and reads it.
        initial: Makes the state before the first event.
        evolve: Returns the state after an event.
        events: The models that the aggregate's events are: one, or a union.
        snapshot_version: Raised by the author when a handler's meaning changes and its shape does not.
    """

    category: str
    state_type: Any
    initial: Callable[[], S]
    evolve: Callable[[S, Any], S]
    events: Any
    snapshot_version: int = 1
    _fingerprints: dict[EventTypes, str] = field(default_factory=dict, repr=False)

    @cached_property
    def models(self) -> tuple[type[BaseModel], ...]:
        """The models of the aggregate's events."""
        return models_of(self.events)

    @cached_property
    def selection(self) -> Selection:
        """What the aggregate reads of its streams."""
        return Selection(frozenset(self.models), raw=False)

    @cached_property
    def _state(self) -> TypeAdapter[S]:
        return TypeAdapter(self.state_type)

    def stream_id(self, key: str) -> str:
        """Return the stream of the aggregate with a key.

        Raises:
            InvalidStreamIdError: The key is none.
        """
        return str(StreamId(self.category, key))

    def fingerprint(self, types: EventTypes) -> str:
        """Return a text that changes with the state's schema, the events, their upcasters, or `snapshot_version`."""
        known = self._fingerprints.get(types)
        if known is None:
            parts = [
                self.category,
                json.dumps(self._state.json_schema(), sort_keys=True),
                *types.describe(self.models),
                str(self.snapshot_version),
            ]
            known = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
            self._fingerprints[types] = known
        return known

    def dump_state(self, state: S) -> str:
        """Return a state as JSON text."""
        # No warnings: they quote values.
        return self._state.dump_json(state, by_alias=True, round_trip=True, warnings=False).decode()

    def load_state(self, text: str) -> S | None:
        """Return the state of a snapshot; None when it cannot be read, which costs a replay and nothing else."""
        try:
            return self._state.validate_json(text)
        except Exception:  # noqa: BLE001 - validators of the state's own may raise anything
            return None


@dataclass(frozen=True, slots=True)
class Folded(Generic[S]):
    """A folded stream.

    Attributes:
        state: The state after its last event.
        version: That event's version; 0 for a stream without events.
        position: That event's place in the log.
        event_id: That event's id; None for a stream without events.
        replayed: How many events were folded for it.
        snapshot_version: The version of the snapshot that it started from; 0 for none.
        seconds: How long loading took.
        bad_snapshot: Whether there was a snapshot that could not be used: unreadable, or of another history.
    """

    state: S = field(repr=False)
    version: int = 0
    position: Position = BEGINNING
    event_id: UUID | None = None
    replayed: int = 0
    snapshot_version: int = 0
    seconds: float = 0.0
    bad_snapshot: bool = False


async def load_folded(
    operations: Operations,
    shape: Shape[S],
    stream_id: str,
    *,
    version: int | None = None,
    use_snapshot: bool = True,
) -> Folded[S]:
    """Load the state of a stream, at its last version or at an earlier one.

    One round trip when the rest after the snapshot, or the whole stream, fits a page.
    """
    began = perf_counter()
    to_version = LAST_VERSION if version is None else version
    fingerprint = shape.fingerprint(operations.event_types) if use_snapshot else ""
    found = await operations.log.load_folded(stream_id, fingerprint, to_version, PAGE)
    folded = await _fold(operations, shape, stream_id, found, page=PAGE, to_version=to_version)
    return replace(folded, seconds=perf_counter() - began)


async def load_many(operations: Operations, shape: Shape[S], stream_ids: Iterable[str]) -> dict[str, Folded[S]]:
    """Load the states of many streams, without those that have no events.

    One round trip for `TOGETHER` streams; one more for each page of a stream that has more than `OF_EACH` events after
    its snapshot.
    """
    fingerprint = shape.fingerprint(operations.event_types)
    wanted = list(dict.fromkeys(stream_ids))
    loaded: dict[str, Folded[S]] = {}
    for begin in range(0, len(wanted), TOGETHER):
        some = wanted[begin : begin + TOGETHER]
        found = await operations.log.load_many(some, fingerprint, OF_EACH)
        for stream_id in some:
            if stream_id not in found:
                continue
            began = perf_counter()
            folded = await _fold(operations, shape, stream_id, found[stream_id], page=OF_EACH, to_version=LAST_VERSION)
            seconds = perf_counter() - began
            operations.notice_load(stream_id, folded.replayed, seconds, bad_snapshot=folded.bad_snapshot)
            if folded.version > 0:  # a snapshot can be left over from a history that is not there any more
                loaded[stream_id] = replace(folded, seconds=seconds)
    return loaded


async def _fold(
    operations: Operations, shape: Shape[S], stream_id: str, found: StoredFold, *, page: int, to_version: int
) -> Folded[S]:
    """Fold what was found of a stream, and what comes after it; all of it anew when its snapshot is of no use.

    Every event counts for the version, as `load_as_of` says.
    """
    start, (snapshot, tail) = Folded(shape.initial()), found
    rest = _Rest(operations.log, stream_id, tail[-1].stream_version + 1 if tail else 1, to_version)
    rest.done = len(tail) < page
    if snapshot is not None:
        restored = _restore(shape, snapshot, tail)
        if restored is None:
            bound = None if to_version == LAST_VERSION else to_version
            replayed = await load_folded(operations, shape, stream_id, version=bound, use_snapshot=False)
            return replace(replayed, bad_snapshot=True)
        start, tail = restored, tail[1:]
    pages: Ahead[EventsToFold] = Ahead(rest, allowed=operations.log.reads_ahead)
    await pages.ask()
    folded = _fold_stored(operations, shape, stream_id, start, tail)
    while (stored := await pages.next()) is not None:
        await pages.ask()
        folded = _fold_stored(operations, shape, stream_id, folded, stored)
    return folded


class _Rest:
    """The pages of a stream after the first one."""

    def __init__(self, log: Log, stream_id: str, from_version: int, to_version: int) -> None:
        self._log = log
        self._stream_id = stream_id
        self._from = from_version
        self._to = to_version
        self.done = False

    async def fetch(self) -> EventsToFold:
        """Return the next page."""
        found = await self._log.load_folded(self._stream_id, "", self._to, PAGE, from_version=self._from)
        self.done = len(found.events) < PAGE
        if found.events:
            self._from = found.events[-1].stream_version + 1
        return found.events


async def load_as_of(
    operations: Operations,
    shape: Shape[S],
    stream_id: str,
    *,
    version: int | None = None,
    occurred_until: datetime | None = None,
    recorded_until: datetime | None = None,
) -> Folded[S]:
    """Load the state of a stream as it is now, as it was at a version, or as the events up to a time make it.

    Its version is that of the last event that counts, whichever way it is loaded, and every event counts: also one that
    is not the aggregate's and changes nothing.

    Raises:
        InvalidArgumentError: Both a version and a time are given.
    """
    if occurred_until is None and recorded_until is None:
        folded = await load_folded(operations, shape, stream_id, version=version)
        operations.notice_load(stream_id, folded.replayed, folded.seconds, bad_snapshot=folded.bad_snapshot)
        return folded
    if version is not None:
        raise InvalidArgumentError("load at a version or at a time, not at both")
    wanted = StreamRange(
        stream_id,
        occurred_until=occurred_until and in_utc("occurred_until", occurred_until),
        recorded_until=recorded_until and in_utc("recorded_until", recorded_until),
    )
    folded = Folded(shape.initial())
    pages: Ahead[Sequence[StoredEvent]] = Ahead(
        StreamSource(operations.log, wanted, None), allowed=operations.log.reads_ahead
    )
    while (stored := await pages.next()) is not None:
        await pages.ask()
        folded = _fold_stored(operations, shape, stream_id, folded, EventsToFold.of(stored))
    return folded


def _restore(shape: Shape[S], snapshot: StoredSnapshot, tail: EventsToFold) -> Folded[S] | None:
    """Return the state of a snapshot, if the log has the event that it was made at and the state can be read."""
    if not tail:
        return None
    first = tail[0]
    if (first.stream_version, first.event_id) != (snapshot.stream_version, snapshot.event_id):
        return None
    state = shape.load_state(snapshot.state)
    if state is None:
        return None
    return Folded(
        state,
        snapshot.stream_version,
        Position(first.position),
        snapshot.event_id,
        snapshot_version=snapshot.stream_version,
    )


def _fold_stored(
    operations: Operations, shape: Shape[S], stream_id: str, start: Folded[S], tail: EventsToFold
) -> Folded[S]:
    if not tail:
        return start
    evolve, state = shape.evolve, start.state
    for event in operations.codec.pages(shape.selection).data(stream_id, tail.rows):
        state = evolve(state, event)
    last = tail[-1]
    return Folded(
        state,
        last.stream_version,
        Position(last.position),
        last.event_id,
        start.replayed + len(tail),
        start.snapshot_version,
    )
