"""Reading: async iterators that fetch page by page, and hold neither a connection nor more than a page in between."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from eventstore.events import RecordedEvent

if TYPE_CHECKING:
    from eventstore.codec import Codec, Selection
    from eventstore.store.log import Log, LogRange, StreamRange

T = TypeVar("T")

PAGE: Final = 1000
"""Events fetched at a time; with events of a few hundred bytes, less than a MiB in memory."""

NextPage = Callable[[], Awaitable[Sequence[RecordedEvent[Any]] | None]]
"""Fetches the next page; None when there is none. Pages may be empty: nothing in them was wanted."""


class EventIterator(Generic[T]):
    """Recorded events, one after the other: `async for event in store.read_stream(...)`, or `.to_list()`.

    It holds no connection between pages, so leaving it half read leaks nothing.
    """

    def __init__(self, next_page: NextPage, limit: int | None) -> None:
        self._next_page = next_page
        self._left = limit
        self._page: Sequence[RecordedEvent[Any]] = ()
        self._index = 0

    def __aiter__(self) -> AsyncIterator[RecordedEvent[T]]:
        return self

    async def __anext__(self) -> RecordedEvent[T]:
        if self._left == 0:
            raise StopAsyncIteration
        while self._index >= len(self._page):
            page = await self._next_page()
            if page is None:
                raise StopAsyncIteration
            self._page, self._index = page, 0
        event = self._page[self._index]
        self._index += 1
        if self._left is not None:
            self._left -= 1
        return event

    async def to_list(self) -> list[RecordedEvent[T]]:
        """Read everything into a list."""
        return [event async for event in self]


def stream_pages(log: Log, codec: Codec, wanted: StreamRange, selection: Selection, limit: int | None) -> NextPage:
    """Return the pages of a stream."""
    size = PAGE if limit is None else min(PAGE, limit)
    rest: StreamRange | None = wanted

    async def next_page() -> Sequence[RecordedEvent[Any]] | None:
        nonlocal rest
        if rest is None:
            return None
        stored = await log.read_stream(rest, size)
        if len(stored) < size:
            rest = None
        elif wanted.backwards:
            rest = rest._replace(to_version=stored[-1].stream_version - 1)
        else:
            rest = rest._replace(from_version=stored[-1].stream_version + 1)
        return [event for row in stored for event in codec.decode(row, selection)]

    return next_page


def log_pages(log: Log, codec: Codec, wanted: LogRange, selection: Selection, after: int) -> NextPage:
    """Return the pages of the log, up to where it was settled when the first page was read."""
    up_to: int | None = None
    done = False

    async def next_page() -> Sequence[RecordedEvent[Any]] | None:
        nonlocal after, up_to, done
        if done:
            return None
        if up_to is None:
            up_to = await log.high_water()
        page = await log.read_all(wanted, after, up_to, PAGE)
        if page.last_position is None:
            return None
        after = page.last_position
        done = not page.full
        return [event for row in page.events for event in codec.decode(row, selection)]

    return next_page
