"""The log in PostgreSQL: each operation is one named query on a session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import chain, groupby, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from eventstore.codec import StoredEvent
from eventstore.db import Database
from eventstore.errors import InvalidArgumentError, NotPrimaryError
from eventstore.events import StreamInfo
from eventstore.lifecycle import Wakeup
from eventstore.store.commit import has_committed
from eventstore.store.grouping import GroupingAppender
from eventstore.store.log import (
    AppendOutcome,
    EventsToFold,
    LogPage,
    LogRange,
    Mark,
    NotOnLogError,
    StoredFold,
    StoredSnapshot,
    StreamRange,
)

if TYPE_CHECKING:
    from datetime import datetime

    from eventstore.codec import Codec
    from eventstore.db import Connection, Session
    from eventstore.store.log import AppendRequest


_EVERYTHING: Final = LogRange()


class PostgresLog:
    """A `Log` on a session: a pool, where each call is a transaction, or a connection that is inside one."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._pooled = isinstance(session, Database)
        self.wakeup = Wakeup()

    @property
    def session(self) -> Session:
        """Where the queries run."""
        return self._session

    @property
    def reads_ahead(self) -> bool:
        """Whether there are connections beside the one in use."""
        return self._pooled

    async def append(self, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        """Carry out appends in one round trip; see the SQL functions `append` and `append_one`."""
        if len(requests) == 1 and len(requests[0].events) == 1 and not requests[0].look_up_ids:
            return [await self._append_one(requests[0], wait=wait)]
        row = await self._session.fetchrow("append", wait, *_append_arguments(requests))
        outcomes, versions, positions = cast("Sequence[Any]", row)
        answers: list[AppendOutcome] = []
        appended = 0
        for request, kind, version in zip(requests, outcomes, versions, strict=True):
            position = None
            if kind == "appended":
                appended += len(request.events)
                position = positions[appended - 1]
            answers.append(AppendOutcome(kind, version, position))
        return answers

    async def _append_one(self, request: AppendRequest, *, wait: bool) -> AppendOutcome:
        stream_id, _, expected, ((*columns, _),), _ = request
        row = await self._session.fetchrow("append_one", wait, stream_id, expected, *columns)
        return AppendOutcome(*cast("Sequence[Any]", row))

    async def events_by_ids(self, stream_id: str, event_ids: Sequence[UUID]) -> list[StoredEvent]:
        """Return the stream's events that have one of these ids, by version."""
        return _stored(await self._session.fetch("events_by_ids", stream_id, list(event_ids)))

    async def read_stream(self, wanted: StreamRange, limit: int) -> list[StoredEvent]:
        """Return the first `limit` events of a range."""
        rows = await self._session.fetch(
            "read_stream_backwards" if wanted.backwards else "read_stream",
            wanted.stream_id,
            wanted.from_version,
            wanted.to_version,
            wanted.event_types,
            wanted.occurred_until,
            wanted.recorded_until,
            limit,
        )
        return _stored(rows)

    async def high_water(self) -> int:
        """Return the position up to which nothing can appear late.

        Raises:
            InvalidArgumentError: The transaction reads an old snapshot, in which events below the mark may be missing.
        """
        mark, sees_what_came = cast("Sequence[Any]", await self._session.fetchrow("high_water"))
        if not sees_what_came:
            raise InvalidArgumentError(
                "the log cannot be read in a REPEATABLE READ or SERIALIZABLE transaction: its snapshot may lack events "
                "that have become settled since; read outside the transaction, or begin it as READ COMMITTED"
            )
        return int(mark)

    async def last_drawn(self) -> int:
        """Return the last position handed out."""
        return await self._number("last_drawn")

    async def read_all(self, wanted: LogRange, after: int, up_to: int, limit: int) -> LogPage:
        """Return the wanted ones among the next `limit` events after a position."""
        if wanted == _EVERYTHING:  # half of the server's work: no page that is looked through a second time
            rows = await self._session.fetch("read_everything", after, up_to, limit)
            is_full = len(rows) == limit
        else:
            rows = await self._session.fetch("read_all", after, up_to, limit, *_filter(wanted))
            is_full = bool(rows) and rows[-1][0] < up_to
        return _page(rows, full=is_full)

    async def settled(self) -> Mark:
        """Return how far the log is settled, with the run of the server that says so.

        Raises:
            NotPrimaryError: It is a replica.
        """
        *mark, is_replica = cast("Sequence[Any]", await self._session.fetchrow("settled"))
        if is_replica:
            raise NotPrimaryError
        return Mark(*mark)

    async def read_on(self, wanted: LogRange, after: int, event_id: UUID | None, up_to: Mark, limit: int) -> LogPage:
        """Return the wanted ones among the next `limit` events behind an event, which is read with them.

        Raises:
            NotOnLogError: The event is not there, or the server is not the one that gave the mark.
        """
        position, run, _ = up_to
        limit += after > 0
        if wanted == _EVERYTHING:
            rows = await self._session.fetch("read_everything_on", after, position, limit, run)
        else:
            rows = await self._session.fetch("read_on", after, position, limit, *_filter(wanted), run)
        if rows and rows[0][0] == after:
            first, *rows = rows
            if event_id not in (None, first[3]):
                raise NotOnLogError
        elif event_id is not None:
            raise NotOnLogError
        if not rows and event_id is None:  # nothing came that shows who answered
            answering = await self._session.fetchrow("server_run")
            if answering is None or answering[0] != run:
                raise NotOnLogError
        return _page(rows, full=bool(rows) and rows[-1][0] < position)

    async def event_at(self, position: int) -> UUID | None:
        """Return the id of the event at a position."""
        row = await self._session.fetchrow("event_at", position)
        return row[0] if row else None

    async def last_event(self, up_to: int) -> tuple[int, UUID] | None:
        """Return the position and the id of the last event at or before a position."""
        row = await self._session.fetchrow("last_event_up_to", up_to)
        return (row[0], row[1]) if row else None

    async def first_recorded(self, since: datetime, up_to: int) -> int | None:
        """Return the position of the first event that was recorded at a time or later."""
        row = await self._session.fetchrow("first_recorded_from", since, up_to)
        return row[0] if row else None

    async def stream_info(self, stream_id: str) -> StreamInfo | None:
        """Return a stream at a glance."""
        row = await self._session.fetchrow("stream_info", stream_id)
        return StreamInfo(*row) if row else None

    async def list_streams(self, after: str, category: str | None, limit: int) -> list[StreamInfo]:
        """Return streams in the order of their ids."""
        return [StreamInfo(*row) for row in await self._session.fetch("list_streams", after, category, limit)]

    async def load_folded(
        self, stream_id: str, fingerprint: str, to_version: int, limit: int, *, from_version: int = 1
    ) -> StoredFold:
        """Return the snapshot of a shape, if there is one, and the events from its version (inclusive) on."""
        rows = await self._session.fetch("load_folded", stream_id, fingerprint, to_version, limit, from_version)
        return _fold(rows)

    async def load_many(self, stream_ids: Sequence[str], fingerprint: str, limit: int) -> dict[str, StoredFold]:
        """Return the same for many streams, at most `limit` events of each, without those that do not exist."""
        rows = await self._session.fetch("load_many", list(stream_ids), fingerprint, limit)
        return {stream_id: _fold(list(some)) for stream_id, some in groupby(rows, key=itemgetter(-1))}

    async def save_snapshot(self, stream_id: str, fingerprint: str, snapshot: StoredSnapshot) -> None:
        """Keep a snapshot, unless a later one of the same shape is there."""
        await self._session.fetch("save_snapshot", stream_id, fingerprint, *snapshot)

    async def snapshot_versions(self, stream_ids: Sequence[str], fingerprint: str) -> dict[str, tuple[int, datetime]]:
        """Return, for those of the streams that have a snapshot of this shape, its version and when it was taken."""
        rows = await self._session.fetch("snapshot_versions", list(stream_ids), fingerprint)
        return {stream_id: (version, taken_at) for stream_id, version, taken_at in rows}

    async def delete_snapshots(self, stream_id: str) -> None:
        """Forget a stream's snapshots."""
        await self._session.fetch("delete_snapshots", stream_id)

    async def _number(self, query: str) -> int:
        row = await self._session.fetchrow(query)
        return int(cast("Sequence[Any]", row)[0])


def _append_arguments(requests: Sequence[AppendRequest]) -> Sequence[Sequence[Any] | None]:
    """Return the requests as the arrays that the SQL function `append` takes.

    What says nothing is left out: of a batch of single events without metadata, the driver then encodes half as many
    elements, and its look at each (is it an array itself?) costs more than its bytes.
    """
    streams = sorted({request.stream_id for request in requests})  # by code points, which is the order of their bytes
    numbers = {stream_id: number for number, stream_id in enumerate(streams, start=1)}
    stream_ids, _, expected, events, look_ups = zip(*requests, strict=True)
    ids, types, versions, data, metadata, correlations, causations, occurred, _ = zip(*chain(*events), strict=True)
    is_one_each = len(ids) == len(requests)
    return (
        streams,
        [numbers[stream_id] for stream_id in stream_ids],
        expected,
        None if is_one_each else [len(each) for each in events],
        look_ups if any(look_ups) else None,
        None if is_one_each else [number for number, each in enumerate(events, start=1) for _ in each],
        ids,
        types,
        versions,
        data,
        metadata if any(metadata) else None,
        correlations if any(correlations) else None,
        causations if any(causations) else None,
        occurred,
    )


def _filter(wanted: LogRange) -> Sequence[Any]:
    """Return the parameters that say which events are wanted."""
    return (wanted.categories, wanted.event_types, wanted.recorded_from, *(wanted.slices or (None, None)))


def _stored(rows: Iterable[Sequence[Any]]) -> list[StoredEvent]:
    """Return rows as events, without a Python call for each."""
    return list(map(tuple.__new__, repeat(StoredEvent), rows))


def _page(rows: Sequence[Sequence[Any]], *, full: bool) -> LogPage:
    """Return a stretch of the log; its last event comes without a type if it is not wanted."""
    if not rows:
        return LogPage([], None, None, full=False)
    last = rows[-1]
    return LogPage(_stored(rows if last[4] is not None else rows[:-1]), last[0], last[3], full)


def _fold(rows: Sequence[Sequence[Any]]) -> StoredFold:
    """Return a snapshot, which is the first row if it has no event type, and the events."""
    if not rows or rows[0][0] is not None:
        return StoredFold(None, EventsToFold(rows))
    _, _, state, stream_version, _, event_id = rows[0][:6]
    return StoredFold(StoredSnapshot(stream_version, UUID(bytes=event_id), state), EventsToFold(rows[1:]))


class PooledPostgresLog(PostgresLog):
    """The log on a pool."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._database = database

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[PostgresLog]:
        """Keep one connection for several calls, each a transaction of its own."""
        async with self._database.pinned() as session:
            yield PostgresLog(session)


class PostgresBackend:
    """The log in PostgreSQL and its transactions."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.log = PooledPostgresLog(database)

    def appender(self, codec: Codec) -> GroupingAppender:
        """Return what the store's own appends go through: together with those that come at the same time."""
        return GroupingAppender(self.log, codec, connections=self.database.pool_size)

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[tuple[PostgresLog, Connection]]:
        """Open a READ COMMITTED transaction."""
        async with self.database.transaction() as session:
            yield PostgresLog(session), session.connection

    async def has_committed(self, written: Mapping[str, Sequence[UUID]], reason: str) -> bool:
        """Find out whether a transaction whose COMMIT got no answer happened; see `commit`."""
        return await has_committed(self.database, written, reason)

    def close(self) -> None:
        """Do nothing: the block that opened the database closes it, and it refuses further calls then."""
