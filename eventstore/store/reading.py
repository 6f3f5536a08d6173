"""Reading: async iterators over pages, the next of which is on its way while one is consumed.

    taken: page n  |  asked for: page n + 1, and nothing further  |  decoded: a slice of page n, as it is consumed

A page is asked for by a task, which holds a connection for as long as its query runs, and no longer. Nobody needs to
close an iterator: one that is left half read leaves at most one query behind, which ends by itself, and whose result
or failure nobody hears of. Inside a transaction nothing is asked for ahead: its one connection is the caller's between
two pages.

A page is decoded in slices because of Python's garbage collector: it looks at objects that live through some hundred
allocations, and a page of decoded events is thousands of them. Read and dropped one after the other, 200,000 events
took 13 microseconds each where a page was decoded at once, and 7 in slices of 32.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

from eventstore.errors import CodecError

if TYPE_CHECKING:
    from eventstore.codec import Codec, Selection, StoredEvent
    from eventstore.events import RecordedEvent
    from eventstore.store.log import Log, LogRange, StreamRange

T = TypeVar("T")
Page = TypeVar("Page", bound=Sequence[Any])
Page_co = TypeVar("Page_co", bound=Sequence[Any], covariant=True)

PAGE: Final = 1000
"""Events fetched at a time; with events of a few hundred bytes, less than a MiB in memory."""
FIRST_PAGE: Final = 128
"""Events fetched before it is known how large they are."""
SLICE: Final = 32
"""Stored events decoded at a time."""
PAGE_BYTES: Final = 2 * 1024 * 1024
"""What a page may hold, judged by the size of the events before it."""

_data = attrgetter("data")

_GROWTH: Final = 8
_AROUND: Final = 200
"""Bytes of a stored event beside its data."""


class Source(Protocol[Page_co]):
    """Stored events page by page."""

    done: bool
    """Whether everything has been fetched."""

    async def fetch(self) -> Page_co:
        """Return the next page, which may be empty (nothing in it was wanted); when it fails, it can be asked again."""
        ...


class EventIterator(Generic[T]):
    """Recorded events, one after the other: `async for event in store.read_stream(...)`, or `.to_list()`.

    Pages are fetched ahead, one at most. It holds no connection between pages, so leaving it half read leaks nothing.
    """

    def __init__(self, pages: Pages, limit: int | None) -> None:
        self._pages = pages
        self._left = limit
        self._page: Sequence[RecordedEvent[Any]] = ()
        self._index = 0

    def __aiter__(self) -> AsyncIterator[RecordedEvent[T]]:
        return self

    async def __anext__(self) -> RecordedEvent[T]:
        index = self._index
        if index == len(self._page):
            index = await self._turn()
        self._index = index + 1
        return self._page[index]

    async def to_list(self) -> list[RecordedEvent[T]]:
        """Read everything into a list; when that fails, nothing is lost: call it again, or read on one by one."""
        events: list[RecordedEvent[T]] = []
        try:
            while True:
                events += self._page[self._index :]
                self._index = len(self._page)
                await self._turn()
        except StopAsyncIteration:
            return events
        except BaseException:
            self._page, self._index = events, 0
            raise

    async def _turn(self) -> int:
        """Go to the next page that has something in it, and return where it begins.

        Raises:
            StopAsyncIteration: There is none.
        """
        while self._left != 0:
            page = await self._pages.next(self._left)
            if page is None:
                break
            if self._left is not None:
                page = page[: self._left]
                self._left -= len(page)
            if page:
                self._page, self._index = page, 0
                return 0
        raise StopAsyncIteration


class Ahead(Generic[Page]):
    """The pages of a source, one of which may be on its way.

    Args:
        source: Where they come from.
        allowed: Whether a page may be asked for before the one in hand is done with.
    """

    def __init__(self, source: Source[Page], *, allowed: bool) -> None:
        self._source = source
        self._allowed = allowed
        self._asked: asyncio.Task[Page] | None = None

    async def next(self) -> Page | None:
        """Return the next page: the one that was asked for, or one that is asked for now; None when there is none."""
        if self._asked is None:
            return None if self._source.done else await self._source.fetch()
        try:
            stored = await self._asked
        except BaseException:
            asked = self._asked
            if asked.done() and (asked.cancelled() or asked.exception() is not None):
                self._asked = None  # to be asked again; a page that has come although the caller left is kept
            raise
        self._asked = None
        return stored

    async def ask(self) -> None:
        """Ask for the next page, if there is one."""
        if self._allowed and self._asked is None and not self._source.done:
            self._asked = asyncio.create_task(self._source.fetch())
            self._asked.add_done_callback(_heard)
            await asyncio.sleep(0)  # the task's first step sends the query


class Pages:
    """The pages of a source, decoded slice by slice.

    Args:
        source: Where they come from.
        codec: Decodes them.
        selection: What the reader wants.
        ahead: Whether the next page may be asked for while one is consumed.
    """

    def __init__(
        self, source: Source[Sequence[StoredEvent]], codec: Codec, selection: Selection, *, ahead: bool
    ) -> None:
        self._stored = Ahead(source, allowed=ahead)
        self._decoder = codec.pages(selection)
        self._in_hand: Sequence[StoredEvent] = ()
        self._taken = 0  # of the page in hand; it moves when a slice is given out: the caller may be cancelled before

    async def next(self, limit: int | None = None) -> list[RecordedEvent[Any]] | None:
        """Return the next slice; None when there is none. It may be empty: nothing in it was wanted.

        Args:
            limit: How many events are still wanted; None for all.
        """
        if self._taken == len(self._in_hand):
            page = await self._stored.next()
            if page is None:
                return None
            self._in_hand, self._taken = page, 0
        if limit is None or limit > len(self._in_hand) - self._taken:
            await self._stored.ask()  # before anything is decoded: meanwhile the server works
        events, count = self._decoded(self._in_hand[self._taken : self._taken + SLICE])
        self._taken += count
        return events

    def _decoded(self, some: Sequence[StoredEvent]) -> tuple[list[RecordedEvent[Any]], int]:
        """Return what a slice is, and of how much of it: up to an event that cannot be read, which is the next one.

        Raises:
            CodecError: The first of it cannot be read.
        """
        try:
            return self._decoder.events(some), len(some)
        except CodecError:
            sound: list[
                RecordedEvent[Any]
            ] = []  # and again one by one, out here: what is raised there is no second error
        for count, stored in enumerate(some):
            try:
                sound += self._decoder.events([stored])
            except CodecError:
                if count == 0:
                    raise
                return sound, count
        return sound, len(some)


def _heard(asked: asyncio.Task[Any]) -> None:
    """Take note of a failure, so that nobody complains when an iterator was left before its next page came."""
    if not asked.cancelled():
        asked.exception()


class StreamSource:
    """The pages of a stream."""

    def __init__(self, log: Log, wanted: StreamRange, limit: int | None) -> None:
        self._log = log
        self._rest = wanted
        self._size = PageSize(PAGE if limit is None else min(PAGE, limit))
        self.done = limit == 0

    async def fetch(self) -> Sequence[StoredEvent]:
        """Return the next page."""
        size, rest = self._size.rows, self._rest
        stored = await self._log.read_stream(rest, size)
        if len(stored) < size:
            self.done = True
        elif rest.backwards:
            self._rest = rest._replace(to_version=stored[-1].stream_version - 1)
        else:
            self._rest = rest._replace(from_version=stored[-1].stream_version + 1)
        self._size.learn(stored)
        return stored


class LogSource:
    """The pages of the log, up to where it was settled when the first page was read."""

    def __init__(self, log: Log, wanted: LogRange, after: int) -> None:
        self._log = log
        self._wanted = wanted
        self._after = after
        self._up_to: int | None = None
        self._size = PageSize(PAGE)
        self.done = False

    async def fetch(self) -> Sequence[StoredEvent]:
        """Return the next page."""
        if self._up_to is None:
            self._up_to = await self._log.high_water()
        page = await self._log.read_all(self._wanted, self._after, self._up_to, self._size.rows)
        if page.last_position is not None:
            self._after = page.last_position
        self.done = not page.full
        self._size.learn(page.events)
        return page.events


class PageSize:
    """How many events to fetch, so that a page stays small in memory however large they are.

    Args:
        most: The most that are wanted.
        first: How many are fetched before it is known how large they are.
        share: How much of what is looked at is fetched, where that is known: the rest takes no memory.

    Attributes:
        rows: How many the next page should have.
    """

    def __init__(self, most: int, *, first: int = FIRST_PAGE, share: float = 1.0) -> None:
        self._most = most
        self._bytes = int(PAGE_BYTES / share)
        self._is_known = False
        self.rows = min(first, most)

    def learn(self, page: Sequence[StoredEvent]) -> None:
        """Look at a page that came."""
        if page:
            self._is_known = True
            mean = sum(map(len, map(_data, page))) // len(page) + _AROUND
            self.rows = max(1, min(self._bytes // mean, self.rows * _GROWTH, self._most))
        elif not self._is_known:  # nothing that was wanted: nothing that took memory, either
            self.rows = min(max(self.rows, FIRST_PAGE), self._most)


def stream_pages(log: Log, codec: Codec, wanted: StreamRange, selection: Selection, limit: int | None) -> Pages:
    """Return the pages of a stream."""
    return Pages(StreamSource(log, wanted, limit), codec, selection, ahead=log.reads_ahead)


def log_pages(log: Log, codec: Codec, wanted: LogRange, selection: Selection, after: int) -> Pages:
    """Return the pages of the log, up to where it was settled when the first page was read."""
    return Pages(LogSource(log, wanted, after), codec, selection, ahead=log.reads_ahead)
