"""Small parts that everything long-lived shares: backing off, and owning background tasks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any


class Backoff:
    """Waits longer after each failure, with jitter so that many do not return at once.

    Args:
        first: The first wait, in seconds.
        most: The longest wait, in seconds.
    """

    def __init__(self, *, first: float = 0.1, most: float = 5.0) -> None:
        self._first = first
        self._most = most
        self._next = first

    async def wait(self) -> None:
        """Wait, between half of the current delay and all of it."""
        delay, self._next = self._next, min(self._next * 2, self._most)
        await asyncio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - spreading load, no secret

    def reset(self) -> None:
        """Start again from the first delay, after a success."""
        self._next = self._first


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines in the background of the block and cancel them at its end; if one fails, the block ends with it.

    Raises:
        Exception: What a coroutine failed with, as it is.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
    except BaseExceptionGroup as failures:
        _raise_single(failures)


def _raise_single(failures: BaseExceptionGroup[BaseException]) -> None:
    """Raise the only failure of a group by itself: callers catch typed errors, not groups."""
    distinct = {id(error): error for error in failures.exceptions}
    if len(distinct) > 1:
        raise failures
    (only,) = distinct.values()
    if isinstance(only, BaseExceptionGroup):
        _raise_single(only)
    raise only from only.__cause__
