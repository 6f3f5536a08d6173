"""Going on with a parked stream: replaying what was held back, or going on without the event that cannot be applied.

One transaction, at the terminal or in a service, whether or not a worker runs:

    lock the consumer's place, so that its worker waits -> lock the parked stream
        -> apply what is held back, from the log, up to that place: each event within a savepoint
        -> all applied: held back no longer | one fails: held back from that one on
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from eventstore.db.errors import translated
from eventstore.errors import (
    CodecError,
    InvalidArgumentError,
    NotParkedError,
    ParkedElsewhereError,
    ProjectionFailedError,
)
from eventstore.projections.applying import ProjectionRunner
from eventstore.projections.handling import StretchFailedError
from eventstore.projections.parking import ParkedStream, ParkedStreams, failure_of
from eventstore.store.log import LAST_VERSION, StreamRange

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.db.database import ConnectionSession
    from eventstore.projections.projection import Projection
    from eventstore.store import EventStore

_PAGE: Final = 500


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of a parked stream.

    Attributes:
        stream_id: The stream.
        events: How many of the events that were held back are applied now.
        parked: Where it is held back now; None when it is not any more.
    """

    stream_id: str
    events: int
    parked: ParkedStream | None


async def replay_parked(store: EventStore, projection: Projection, stream_id: str) -> Replayed:
    """Apply what is held back of a stream; if one of its events fails (again), it is held back from there on.

    Raises:
        NotParkedError: The stream is not held back.
        UnavailableError: The connection broke; nothing has changed.
        TransactionConflictError: PostgreSQL preferred another transaction; nothing has changed.
    """
    runner = ProjectionRunner(store, projection)
    async with runner.opened():
        return await _Replay(runner, stream_id).run()


async def replay_all_parked(store: EventStore, projection: Projection) -> AsyncIterator[Replayed]:
    """Replay all streams that a projection holds back, each in a transaction of its own, oldest first.

    Raises:
        UnavailableError: The connection broke; those that were yielded are done.
        TransactionConflictError: PostgreSQL preferred another transaction; the same.
    """
    runner = ProjectionRunner(store, projection)
    async with runner.opened():
        for parked in await ParkedStreams(store.database, projection.consumer_name).held():
            try:
                yield await _Replay(runner, parked.stream_id).run()
            except NotParkedError:
                continue  # somebody else was faster


async def discard_parked(
    store: EventStore, projection: Projection, stream_id: str, *, by: str, reason: str, version: int | None = None
) -> Replayed:
    """Go on with a stream without the event that it is held back from, and apply the rest.

    Who did so, when and why is kept in the table `discarded_events`. A rebuild tries the event again.

    Args:
        store: The store.
        projection: Which read model.
        stream_id: The stream.
        by: Who decided it.
        reason: Why.
        version: The version that it is held back from, as whoever decided has seen it; unless it is still that one,
            nothing is discarded. Left out: whichever it is.

    Raises:
        InvalidArgumentError: Nobody, or no reason, is named.
        NotParkedError: The stream is not held back.
        ParkedElsewhereError: It is held back from another version.
        UnavailableError: The connection broke; nothing has changed.
        TransactionConflictError: PostgreSQL preferred another transaction; nothing has changed.
    """
    if not by.strip() or not reason.strip():
        raise InvalidArgumentError("discarding an event needs a name (by=) and a reason (reason=): they are kept")
    runner = ProjectionRunner(store, projection)
    async with runner.opened():
        return await _Replay(runner, stream_id).run(discarded_by=by, reason=reason, version=version)


class _Replay:
    def __init__(self, runner: ProjectionRunner, stream_id: str) -> None:
        self._runner = runner
        self._stream_id = stream_id
        self._consumer = runner.consumer_name

    async def run(self, *, discarded_by: str | None = None, reason: str = "", version: int | None = None) -> Replayed:
        applied = 0
        async with self._runner.transaction() as session:
            streams = ParkedStreams(session, self._consumer)
            position, last = await self._hold_place(session)
            await streams.lock(self._stream_id)
            parked = await streams.find(self._stream_id)
            since = parked.from_version
            if version not in {None, since}:
                raise ParkedElsewhereError(self._runner.projection.name, self._stream_id, version, since)
            if discarded_by is not None:
                await streams.note_discard(self._stream_id, by=discarded_by, reason=reason)
                since += 1
            async for event in self._held(since, position, last):
                failed = await self._try(session, event)
                if failed is not None:
                    again = parked.attempts if event.stream_version == parked.from_version else 0
                    await streams.park(event, failure_of(failed, again + 1))
                    return Replayed(self._stream_id, applied, await streams.find(self._stream_id))
                applied += 1
            await streams.release(self._stream_id)
        return Replayed(self._stream_id, applied, None)

    async def _hold_place(self, session: ConnectionSession) -> tuple[int | None, int]:
        """Keep the consumer's worker from going on; return up to which position, or version, it has come.

        A checkpoint says more than places in Kafka that are there beside it: they are from before a rebuild.
        """
        row = await session.fetchrow("lock_checkpoint", self._consumer)
        if row is not None and row[0]:
            return int(row[0]), LAST_VERSION
        row = await session.fetchrow("lock_kafka_stream", self._consumer, self._stream_id)
        if row is None:
            raise NotParkedError(self._runner.projection.name, self._stream_id)
        return None, int(row[0])

    async def _held(self, since: int, position: int | None, version: int) -> AsyncIterator[StoredEvent]:
        """Yield the wanted events that are held back, page by page."""
        wanted = StreamRange(self._stream_id, since, version, event_types=self._runner.event_types)
        while page := await self._runner.store.log.read_stream(wanted, _PAGE):
            for event in page:
                if position is not None and event.position > position:
                    return
                yield event
            wanted = wanted._replace(from_version=page[-1].stream_version + 1)

    async def _try(self, session: ConnectionSession, event: StoredEvent) -> Exception | None:
        """Apply an event; return why it cannot be, with nothing of it left behind."""
        savepoint = session.connection.transaction()
        with translated(session.queries.schema):
            await savepoint.start()
        try:
            await self._runner.handle(session, [event])
        except (ProjectionFailedError, StretchFailedError, CodecError) as error:
            with translated(session.queries.schema):
                await savepoint.rollback()
            return error
        with translated(session.queries.schema):
            await savepoint.commit()
        return None
