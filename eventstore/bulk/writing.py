"""Writing a chunk, and finding out whether it was written when nobody says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventstore.bulk.binary import COLUMNS
from eventstore.bulk.chunks import Heads, heads_of
from eventstore.bulk.errors import ImportBusyError
from eventstore.db.errors import DuplicateError
from eventstore.errors import EventStoreError, TransactionConflictError, UnavailableError
from eventstore.lifecycle import Backoff

if TYPE_CHECKING:
    from eventstore.bulk.chunks import Chunk
    from eventstore.bulk.errors import ImportRowError
    from eventstore.db import Database
    from eventstore.db.database import ConnectionSession

ATTEMPTS: Final = 8
"""How often a chunk is tried when the connection breaks or PostgreSQL prefers others: some seconds."""

_EVENT_ID_KEY: Final = "events_event_id_key"


class ChunkWriter:
    """Writes the chunks of an import.

    Args:
        database: The store's way to PostgreSQL.
        name: The import.
    """

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def write(self, chunk: Chunk) -> None:
        """Write a chunk and note that; when an attempt's outcome is unknown, the next one finds it out.

        Raises:
            ImportRowError: A row of it cannot go where it says; nothing of the chunk is written.
            ImportBusyError: Another run is at work.
            UnavailableError: The database could not be reached for a while.
            TransactionConflictError: PostgreSQL ended the transaction again and again.
        """
        backoff = Backoff(first=0.05, most=2.0)
        unanswered = False
        for left in range(ATTEMPTS, 0, -1):
            try:
                async with self._database.transaction() as session:
                    await self._write_in(session, chunk, unanswered=unanswered)
            except DuplicateError as error:
                raise await self._meaning(chunk, error) from None
            except (TransactionConflictError, UnavailableError) as error:
                if left == 1:
                    raise
                unanswered = unanswered or isinstance(error, UnavailableError)
                await backoff.wait()
            else:
                return

    async def _write_in(self, session: ConnectionSession, chunk: Chunk, *, unanswered: bool) -> None:
        # First, so that two runs of one import, or a run and what is left of one that was cut off, wait for each other.
        place = (chunk.after, chunk.last_stream_id, chunk.last_event_id)
        if not await session.fetch("advance_import", self._name, chunk.before, *place):
            reached = await session.fetchrow("import_progress", self._name)
            if unanswered and reached is not None and tuple(reached) == place:
                return  # an attempt before this one had committed, and its answer was lost
            raise ImportBusyError(self._name)
        stream_ids = chunk.streams()
        heads, now = heads_of(stream_ids, await session.fetch("claim_streams", stream_ids))
        chunk.place(heads, now)
        await session.copy_in("events", COLUMNS, chunk.blocks())

    async def _meaning(self, chunk: Chunk, error: DuplicateError) -> EventStoreError:
        """Return what it means that a row is there already."""
        if error.constraint == _EVENT_ID_KEY:
            known = chunk.doubled() or await first_known(self._database, chunk)
            if known is not None:
                return known
        return TransactionConflictError("somebody writes to the log without its locks: run the import again")


class ChunkChecker(ChunkWriter):
    """Checks chunks against the log as it is: versions are counted on in memory, and nothing is written."""

    def __init__(self, database: Database, name: str) -> None:
        super().__init__(database, name)
        self._heads: Heads = {}

    async def write(self, chunk: Chunk) -> None:
        """Check a chunk.

        Raises:
            ImportRowError: A row of it could not go where it says.
        """
        new = [stream_id for stream_id in chunk.streams() if stream_id not in self._heads]
        heads, now = heads_of(new, await self._database.fetch("stream_heads", new))
        self._heads |= heads
        chunk.place(self._heads, now)
        known = chunk.doubled() or await first_known(self._database, chunk)
        if known is not None:
            raise known


async def first_known(database: Database, chunk: Chunk) -> ImportRowError | None:
    """Return the refusal of the first row whose id is in its stream already."""
    found = await database.fetchrow("first_known_id", chunk.stream_ids, chunk.ids())
    if found is None:
        return None
    index = found[0] - 1
    return chunk.refusal(
        index,
        f"its event_id is in {chunk.stream_ids[index]!r} already (was this imported before, under another name?)",
    )
