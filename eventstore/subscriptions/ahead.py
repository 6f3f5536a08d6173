"""Working on one thing while the next one is being fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from eventstore.lifecycle import ended

T = TypeVar("T")


class OneAhead(AsyncIterator[T], Generic[T]):
    """An endless iterator that is one item ahead of whoever takes its items, where there are more. See `one_ahead`."""

    def __init__(self, items: AsyncIterator[T], has_more: Callable[[T], bool]) -> None:
        self._items = items
        self._has_more = has_more
        self._fetching: asyncio.Task[T] | None = None

    async def __anext__(self) -> T:
        """Return the next item."""
        fetching = self._begin()
        await asyncio.wait({fetching})
        return self._take(fetching)

    async def within(self, seconds: float | None) -> T | None:
        """Return the next item; None when there is none within some seconds."""
        fetching = self._begin()
        await asyncio.wait({fetching}, timeout=seconds)
        return self._take(fetching) if fetching.done() else None

    @property
    def is_ahead(self) -> bool:
        """Whether the next item is being fetched, or was."""
        return self._fetching is not None

    async def end(self) -> None:
        """Fetch no more."""
        if self._fetching is not None:
            await ended(self._fetching)

    def _begin(self) -> asyncio.Task[T]:
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch())
        return self._fetching

    def _take(self, fetched: asyncio.Task[T]) -> T:
        item = fetched.result()
        self._fetching = None
        if self._has_more(item):
            self._begin()
        return item

    async def _fetch(self) -> T:
        return await anext(self._items)


@asynccontextmanager
async def one_ahead(items: AsyncIterator[T], has_more: Callable[[T], bool]) -> AsyncIterator[OneAhead[T]]:
    """Fetch ahead for the length of the block.

    Args:
        items: The items.
        has_more: Whether more had come when an item was made. If not, the next one is made when it is asked for, with
            all that has come by then: made earlier, it would be smaller, and the rest would wait for one more turn.
    """
    ahead = OneAhead(items, has_more)
    try:
        yield ahead
    finally:
        await ahead.end()
