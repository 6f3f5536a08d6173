"""What `read` reads: one stream, or the whole log; to its end, or on and on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from eventstore.events import BEGINNING, Position, RecordedEvent, position_number
from eventstore.store.log import LogRange
from eventstore.store.reading import log_pages, stream_pages
from eventstore.streams import category_of
from eventstore.subscriptions import END, Checkpoint, Following, LogFollower
from eventstore.subscriptions.interest import Interest

if TYPE_CHECKING:
    from eventstore.cli.events import Reading
    from eventstore.codec import StoredEvent
    from eventstore.store import EventStore
    from eventstore.store.log import StreamRange
    from eventstore.store.reading import Pages as StoredPages

Pages = AsyncGenerator[Sequence[RecordedEvent[Any]], None]

LAST: Final = "end"
"""Where to read on from for new events only."""


class Source(Protocol):
    """Something to read events from."""

    def pages(self, store: EventStore, reading: Reading, limit: int | None) -> Pages:
        """Yield what is there, page by page."""
        ...

    def followed(self, store: EventStore, reading: Reading) -> Pages:
        """Yield what is there, and then what comes, without end."""
        ...


class StreamSource:
    """One stream."""

    def __init__(self, wanted: StreamRange) -> None:
        self.stream_id = wanted.stream_id
        self._wanted = wanted

    async def pages(self, store: EventStore, reading: Reading, limit: int | None) -> Pages:
        """Yield the stream's events, page by page."""
        wanted = self._wanted._replace(event_types=reading.stored_names)
        next_page = stream_pages(store.log, store.codec, wanted, reading.selection, limit)
        async for page in _each(next_page):
            yield page

    async def followed(self, store: EventStore, reading: Reading) -> Pages:
        """Yield the stream's events, and then those that come."""
        # The mark is asked for first: whatever the stream does not show yet lies behind it.
        mark = await store.log.high_water()
        last = self._wanted.from_version - 1
        async for page in self.pages(store, reading, None):
            yield page
            last = page[-1].stream_version if page else last
        wanted = LogRange([category_of(self.stream_id)], reading.stored_names)
        async for batch in LogFollower(store.log, Checkpoint(mark), wanted=wanted):
            new = [event for event in batch.events if event.stream_id == self.stream_id and event.stream_version > last]
            yield _decoded(store, reading, new)


class LogSource:
    """The whole log, or some categories of it, after a position or `end`."""

    def __init__(self, after: str | None, categories: Sequence[str] | None) -> None:
        self._after = BEGINNING if after is None else None if after == LAST else Position.parse(after)
        self._categories = list(categories) if categories else None

    async def pages(self, store: EventStore, reading: Reading, limit: int | None) -> Pages:  # noqa: ARG002 - see Source
        """Yield the log's events, page by page."""
        next_page = log_pages(
            store.log, store.codec, self._wanted(reading), reading.selection, await self._start(store)
        )
        async for page in _each(next_page):
            yield page

    async def followed(self, store: EventStore, reading: Reading) -> Pages:
        """Yield the log's events, and then those that come."""
        interest = Interest(
            store.codec, reading.selection, stored_names=reading.stored_names, categories=self._categories
        )
        following: Following[Any] = Following(store.log, interest, start=END if self._after is None else self._after)
        while True:
            yield await following.next_page()

    def _wanted(self, reading: Reading) -> LogRange:
        return LogRange(self._categories, reading.stored_names)

    async def _start(self, store: EventStore) -> int:
        return await store.log.high_water() if self._after is None else position_number(self._after)


async def _each(pages: StoredPages) -> Pages:
    while (page := await pages.next()) is not None:
        yield page


def _decoded(store: EventStore, reading: Reading, stored: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
    return [event for one in stored for event in store.codec.decode(one, reading.selection)]
