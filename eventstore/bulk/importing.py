r"""Importing: a source's rows in chunks, each a transaction that notes how far the import has come.

    this task: encode chunk n + 1
    another:   write chunk n: advance the import's row -> claim the streams -> COPY -> commit
                   \--connection lost--> again: the import's row says whether it committed

The chunk's transaction holds its streams, so that versions go on where concurrent appenders left them, and announces
itself to readers as every insert does (a trigger takes the low-water lock before COPY draws positions). Chunks are
short, because readers of the log wait for them.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from eventstore.bulk.chunks import Chunk
from eventstore.bulk.encoding import RowEncoder
from eventstore.bulk.errors import ImportChangedError, ImportRowError
from eventstore.bulk.slicing import slices
from eventstore.bulk.writing import ChunkChecker, ChunkWriter
from eventstore.errors import InvalidArgumentError
from eventstore.streams import checked_text

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
    from uuid import UUID

    from eventstore.bulk.events import ImportedEvent
    from eventstore.store import EventStore

CHUNK: Final = 10_000
"""Rows in a transaction: a tenth of a second, which readers of the log wait for."""
FIRST_CHUNK: Final = 1_000
"""Rows of the first one, for which the server has to wait."""
MAX_NAME_LENGTH: Final = 255


class ImportProgress(NamedTuple):
    """How far an import has come.

    Attributes:
        rows: How many rows of the source are in the log.
        imported: How many of them this run brought in.
    """

    rows: int
    imported: int


class ImportResult(NamedTuple):
    """What an import did.

    Attributes:
        name: The import.
        rows: How many rows the source has.
        imported: How many of them this run brought in; the others were there from a run before.
        seconds: How long it took.
    """

    name: str
    rows: int
    imported: int
    seconds: float


async def import_events(
    store: EventStore,
    source: Iterable[ImportedEvent] | AsyncIterable[ImportedEvent],
    *,
    name: str,
    chunk: int = CHUNK,
    skip_inline: bool = False,
    unknown: Literal["refuse", "keep"] = "refuse",
    dry_run: bool = False,
    on_progress: Callable[[ImportProgress], None] | None = None,
) -> ImportResult:
    """Bring many events into the log at once, from another system or another log.

    Each event is checked as an append checks it; JSON that says its schema version is checked as a read does, and
    stored as it is. Streams may exist, and others may append to them meanwhile: versions go on where the stream is.
    Rows come in chunks, each all or nothing. Killed in the middle and run again with the same name and source, it goes
    on where it was, and the log is the same.

    Args:
        store: The store, on PostgreSQL.
        source: The events, in an order in which each stream's are in theirs.
        name: Names the import, so that it can go on; the ids of events without one are derived from it.
        chunk: How many rows go into a transaction.
        skip_inline: Import also what inline projections want; rebuild them afterwards, they do not hear of it.
        unknown: What becomes of events whose type is not registered: "refuse" refuses them; "keep" stores those that
            say their schema version as they are, for readers that ask for `RawEvent` or do not want them.
        dry_run: Only check that every row can become an event, and versions and ids against the log as it is now.
        on_progress: Hears after each chunk how far it has come.

    Raises:
        ImportRowError: A row cannot become an event, or not there; the chunks before its own are in the log.
        ImportChangedError: An import of this name has begun with another source.
        ImportBusyError: Another run of the same import is at work.
        InlineProjectionsError: An inline projection wants an event, and `skip_inline` was not said.
        UnavailableError: The database could not be reached for a while; run it again.
        ConfigurationError: The store is in memory.
    """
    if not 0 < len(checked_text("an import's name", name)) <= MAX_NAME_LENGTH:
        raise InvalidArgumentError(f"an import's name has 1 to {MAX_NAME_LENGTH} characters")
    if not isinstance(chunk, int) or chunk < 1:
        raise InvalidArgumentError(f"chunk is a number of rows from 1, not {chunk!r}")
    if not isinstance(unknown, str) or unknown not in {"refuse", "keep"}:
        raise InvalidArgumentError(f"unknown is 'refuse' or 'keep', not {unknown!r}")
    began = perf_counter()
    refused = () if skip_inline else store.hooked_types
    encoder = RowEncoder(store.codec, name, refused, keep_unknown=unknown == "keep")
    writer = (ChunkChecker if dry_run else ChunkWriter)(store.database, name)
    run = _Run(store, name, encoder, writer, on_progress or (lambda _: None))
    await run.bring(source, chunk)
    return ImportResult(name, run.done, run.imported, perf_counter() - began)


class _Run:
    """One run of an import.

    Attributes:
        done: How many rows are in the log.
        imported: How many of them this run brought in.
    """

    def __init__(
        self,
        store: EventStore,
        name: str,
        encoder: RowEncoder,
        writer: ChunkWriter,
        report: Callable[[ImportProgress], None],
    ) -> None:
        self._store = store
        self._name = name
        self._encoder = encoder
        self._writer = writer
        self._report = report
        self.done = 0
        self.imported = 0

    async def bring(self, source: Iterable[ImportedEvent] | AsyncIterable[ImportedEvent], size: int) -> None:
        """Bring in what is left of a source; each chunk is written while the next one is encoded."""
        behind = _Behind()
        try:
            async with (
                aclosing(slices(source)) as rows,
                aclosing(self._rest(rows)) as rest,
                aclosing(self._chunks(rest, size)) as chunks,
            ):
                async for chunk in chunks:
                    await behind.end()
                    await behind.begin(self._write(chunk))
            await behind.end()
        except Exception as error:
            await behind.end()
            if isinstance(error, ImportRowError):
                error.imported = self.done
            raise
        except BaseException:
            await behind.cancel()
            raise

    async def _write(self, chunk: Chunk) -> None:
        await self._writer.write(chunk)
        self.done = chunk.after
        self.imported += chunk.after - chunk.before
        self._report(ImportProgress(self.done, self.imported))

    async def _rest(self, rows: AsyncIterator[list[ImportedEvent]]) -> AsyncGenerator[list[ImportedEvent], None]:
        """Pass over the rows that an earlier run brought in."""
        progress = await self._store.database.fetchrow("import_progress", self._name)
        self.done = left = progress[0] if progress else 0
        async for some in rows:
            passed = min(left, len(some))
            left -= passed
            if progress and passed and not left:
                await self._require_same(some[passed - 1], *progress[1:])
            yield some[passed:] if passed else some
        if left:
            raise ImportChangedError(self._name, self.done, "this source has fewer")

    async def _require_same(self, event: ImportedEvent, stream_id: str, event_id: UUID) -> None:
        """Check that the last row that was brought in is the event that it became."""
        stored = await self._store.log.events_by_ids(stream_id, [event_id])
        if not stored or not self._encoder.is_same(self.done, event, stored[0]):
            raise ImportChangedError(self._name, self.done, "the last of them is another event in this source")

    async def _chunks(self, rows: AsyncIterator[list[ImportedEvent]], size: int) -> AsyncGenerator[Chunk, None]:
        """Encode the rows that are left; between slices, the chunk before is sent on."""
        chunk: Chunk | None = None
        async for some in rows:
            chunk = chunk or Chunk(self.done, min(size, FIRST_CHUNK))
            events = iter(some)
            while self._encoder.fill(chunk, events):
                yield chunk
                chunk = Chunk(chunk.after, size)
            await asyncio.sleep(0)
        if chunk is not None and chunk.after > chunk.before:
            yield chunk


class _Behind:
    """One piece of work behind another task's back; what was begun is waited for, and its failure is raised there."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None

    async def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Begin; the one before has ended."""
        self._task = asyncio.create_task(work)
        await asyncio.sleep(0)

    async def end(self) -> None:
        """Wait for the end of what was begun, if that was not done already."""
        task, self._task = self._task, None
        if task is not None:
            await task

    async def cancel(self) -> None:
        """Give up what was begun."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task
