"""Working on one thing while the next one is being fetched."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

from eventstore.kafka.answers import ended

T = TypeVar("T")


class OneAhead(Generic[T]):
    """An endless generator that is one item ahead of whoever takes its items. Made by `one_ahead`."""

    def __init__(self, items: AsyncGenerator[T, None]) -> None:
        self._items = items
        self.fetching: asyncio.Task[T] = asyncio.create_task(self._fetch())

    async def next(self, within: float | None) -> T | None:
        """Return the next item; None when there is none within some seconds."""
        await asyncio.wait({self.fetching}, timeout=within)
        if not self.fetching.done():
            return None
        item = self.fetching.result()
        self.fetching = asyncio.create_task(self._fetch())
        return item

    async def _fetch(self) -> T:
        return await anext(self._items)


@asynccontextmanager
async def one_ahead(items: AsyncGenerator[T, None]) -> AsyncIterator[OneAhead[T]]:
    """Fetch ahead for the length of the block."""
    ahead = OneAhead(items)
    try:
        yield ahead
    finally:
        await ended(ahead.fetching)
        await items.aclose()
