"""Working on one thing while the next one is being fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from eventstore.lifecycle import ended

T = TypeVar("T")


class OneAhead(AsyncIterator[T], Generic[T]):
    """An endless iterator that is one item ahead of whoever takes its items. Made by `one_ahead`."""

    def __init__(self, items: AsyncIterator[T]) -> None:
        self._items = items
        self.fetching: asyncio.Task[T] = asyncio.create_task(self._fetch())

    async def __anext__(self) -> T:
        """Return the next item, and begin to fetch the one behind it."""
        await asyncio.wait({self.fetching})
        item = self.fetching.result()
        self.fetching = asyncio.create_task(self._fetch())
        return item

    async def within(self, seconds: float | None) -> T | None:
        """Return the next item; None when there is none within some seconds."""
        await asyncio.wait({self.fetching}, timeout=seconds)
        return await anext(self) if self.fetching.done() else None

    async def _fetch(self) -> T:
        return await anext(self._items)


@asynccontextmanager
async def one_ahead(items: AsyncIterator[T]) -> AsyncIterator[OneAhead[T]]:
    """Fetch ahead for the length of the block."""
    ahead = OneAhead(items)
    try:
        yield ahead
    finally:
        await ended(ahead.fetching)
