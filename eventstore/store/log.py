"""What a store stands on: the `Log`, a narrow port that PostgreSQL and the in-memory store of the testing kit fill.

It speaks of stored events only; models, metadata and typed errors are the store's business above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, overload
from uuid import UUID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from contextlib import AbstractAsyncContextManager
    from datetime import datetime

    from eventstore.codec import Codec, EncodedEvent, StoredEvent
    from eventstore.db import Connection, Database, Session
    from eventstore.events import StreamInfo
    from eventstore.lifecycle import Wakeup
    from eventstore.store.appending import Appender
    from eventstore.streams import ExpectedVersion

LAST_VERSION: Final = 2**63 - 1
"""Above every stream version: no upper bound."""


class AppendRequest(NamedTuple):
    """An append, checked and encoded.

    Attributes:
        stream_id: The stream.
        expected: What the caller expects, as it was given.
        expected_wire: The same, as the log takes it (see `streams.wire_version`).
        events: The encoded events.
        look_up_ids: Whether the ids may be in the stream already.
    """

    stream_id: str
    expected: int | ExpectedVersion
    expected_wire: int
    events: Sequence[EncodedEvent]
    look_up_ids: bool


class AppendOutcome(NamedTuple):
    """What the log answered to an append.

    Attributes:
        kind: `appended`; `wrong_version`; `ids_known` (an id is in the stream already); or `busy` (another transaction
            holds the stream). Nothing was appended but in the first case.
        version: The stream's version now.
        position: The last appended event's position; None when nothing was appended.
    """

    kind: str
    version: int
    position: int | None


class StreamRange(NamedTuple):
    """Which events of a stream a reader wants; bounds are inclusive, None is no bound."""

    stream_id: str
    from_version: int = 1
    to_version: int = LAST_VERSION
    event_types: Sequence[str] | None = None
    occurred_until: datetime | None = None
    recorded_until: datetime | None = None
    backwards: bool = False


class LogRange(NamedTuple):
    """Which events of the log a reader wants: after a position (exclusive), up to the high-water mark."""

    categories: Sequence[str] | None = None
    event_types: Sequence[str] | None = None
    recorded_from: datetime | None = None
    slices: tuple[int, int] | None = None
    """The first and the last slice of the wanted streams."""


class LogPage(NamedTuple):
    """A stretch of the log.

    Attributes:
        events: The wanted events in it, in order.
        last_position: The position of the last event looked at, wanted or not; None when there was none.
        last_event_id: That event's id, for a checkpoint.
        full: Whether the stretch was as long as asked for, so that there may be more.
    """

    events: list[StoredEvent]
    last_position: int | None
    last_event_id: UUID | None
    full: bool


class Mark(NamedTuple):
    """How far the log is settled.

    Attributes:
        position: Nothing can appear late up to here.
        run: The run of the server that said so: on another one it says nothing.
        drawn: The last position handed out by then, or a little later.
    """

    position: int
    run: str | None = None
    drawn: int = 0


class StoredSnapshot(NamedTuple):
    """A snapshot as it is stored; `event_id` is that of the event at `stream_version` when it was taken."""

    stream_version: int
    event_id: UUID
    state: str

    def __repr__(self) -> str:
        return f"StoredSnapshot(version {self.stream_version}, event_id={self.event_id})"


class EventToFold(NamedTuple):
    """As much of a stored event as folding needs."""

    event_type: str
    schema_version: int
    data: str
    stream_version: int
    position: int
    event_id: UUID

    def __repr__(self) -> str:
        return f"EventToFold({self.event_type} v{self.stream_version}, position={self.position})"


class EventsToFold(Sequence[EventToFold]):
    """Events of one stream, kept as the rows that came: only the few whose place matters are ever made more of.

    Args:
        rows: The columns of an `EventToFold`, in its order, the id as its 16 bytes.
    """

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Sequence[Any]]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> EventToFold: ...

    @overload
    def __getitem__(self, index: slice) -> EventsToFold: ...

    def __getitem__(self, index: int | slice) -> EventToFold | EventsToFold:
        if isinstance(index, slice):
            return EventsToFold(self.rows[index])
        row = self.rows[index]
        return EventToFold(row[0], row[1], row[2], row[3], row[4], UUID(bytes=row[5]))

    @classmethod
    def of(cls, events: Iterable[StoredEvent]) -> EventsToFold:
        """Return stored events as what folding needs of them."""
        return cls(
            [
                (one.event_type, one.schema_version, one.data, one.stream_version, one.position, one.event_id.bytes)
                for one in events
            ]
        )


class StoredFold(NamedTuple):
    """What a stream is folded from: a snapshot, if there is one, and the events from its version (inclusive) on."""

    snapshot: StoredSnapshot | None
    events: EventsToFold


class NotOnLogError(Exception):
    """The log is not as a reader left it, or is not where it was: nothing was read, look again."""


class Log(Protocol):
    """The operations a store needs of its log."""

    @property
    def session(self) -> Session:
        """Where the named queries of checkpoints and leases run: in the same place, or in the same transaction."""
        ...

    @property
    def wakeup(self) -> Wakeup:
        """Wakes those who wait for the log to grow."""
        ...

    @property
    def reads_ahead(self) -> bool:
        """Whether a page may be fetched while another one is consumed: not on a connection that is the caller's too."""
        ...

    async def append(self, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        """Carry out appends together, as if they came one after the other, and answer each for itself.

        Args:
            requests: In their order; one that looks up its ids is the only one to its stream.
            wait: Whether to wait for a stream that another transaction holds, or to answer `busy`.
        """
        ...

    async def events_by_ids(self, stream_id: str, event_ids: Sequence[UUID]) -> list[StoredEvent]:
        """Return the stream's events that have one of these ids, by version."""
        ...

    async def read_stream(self, wanted: StreamRange, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events of a range."""
        ...

    async def high_water(self) -> int:
        """Return the position up to which nothing can appear late."""
        ...

    async def last_drawn(self) -> int:
        """Return the last position handed out: a cheap question whether anything has happened."""
        ...

    async def read_all(self, wanted: LogRange, after: int, up_to: int, limit: int) -> LogPage:
        """Return the wanted ones among the next `limit` events after a position."""
        ...

    async def settled(self) -> Mark:
        """Return the same for a reader that stays, with the run of the server that says so.

        Raises:
            NotPrimaryError: It is a replica.
        """
        ...

    async def read_on(self, wanted: LogRange, after: int, event_id: UUID | None, up_to: Mark, limit: int) -> LogPage:
        """Return the same for a reader that goes on behind an event, which is read with it.

        Args:
            wanted: Which events.
            after: The position to go on after.
            event_id: The event there; None when there is none, or it is not known.
            up_to: How far the log is settled.
            limit: How many events to look at.

        Raises:
            NotOnLogError: The event is not there, or the server is not the one that gave the mark: nothing was read.
        """
        ...

    async def event_at(self, position: int) -> UUID | None:
        """Return the id of the event at a position."""
        ...

    async def last_event(self, up_to: int) -> tuple[int, UUID] | None:
        """Return the position and the id of the last event at or before a position."""
        ...

    async def first_recorded(self, since: datetime, up_to: int) -> int | None:
        """Return the position of the first event, in the order of the log, that was recorded at a time or later."""
        ...

    async def stream_info(self, stream_id: str) -> StreamInfo | None:
        """Return a stream at a glance."""
        ...

    async def list_streams(self, after: str, category: str | None, limit: int) -> list[StreamInfo]:
        """Return streams in the order of their ids."""
        ...

    async def load_folded(
        self, stream_id: str, fingerprint: str, to_version: int, limit: int, *, from_version: int = 1
    ) -> StoredFold:
        """Return the snapshot of a shape, if there is one, and the events from its version (inclusive) on.

        Without one they begin at `from_version`.
        """
        ...

    async def load_many(self, stream_ids: Sequence[str], fingerprint: str, limit: int) -> dict[str, StoredFold]:
        """Return the same for many streams (each named once), without those that do not exist."""
        ...

    async def save_snapshot(self, stream_id: str, fingerprint: str, snapshot: StoredSnapshot) -> None:
        """Keep a snapshot, unless a later one of the same shape is there."""
        ...

    async def snapshot_versions(self, stream_ids: Sequence[str], fingerprint: str) -> dict[str, tuple[int, datetime]]:
        """Return, for those of the streams that have a snapshot of this shape, its version and when it was taken."""
        ...

    async def delete_snapshots(self, stream_id: str) -> None:
        """Forget a stream's snapshots."""
        ...


class PooledLog(Log, Protocol):
    """A log on a pool of connections."""

    def pinned(self) -> AbstractAsyncContextManager[Log]:
        """Keep one connection for several calls, each a transaction of its own."""
        ...


class Backend(Protocol):
    """A log and its transactions."""

    @property
    def log(self) -> Log:
        """The log where each operation is a transaction of its own."""
        ...

    @property
    def database(self) -> Database | None:
        """The way to PostgreSQL; None in memory."""
        ...

    def appender(self, codec: Codec) -> Appender:
        """Return what the store's own appends go through."""
        ...

    def begin(self) -> AbstractAsyncContextManager[tuple[Log, Connection | None]]:
        """Open a transaction: the log inside it, and its connection (None in memory)."""
        ...

    async def has_committed(self, written: Mapping[str, Sequence[UUID]], reason: str) -> bool:
        """Find out whether a transaction whose COMMIT got no answer happened; `written` are its ids by stream."""
        ...

    def close(self) -> None:
        """Refuse further calls."""
        ...
