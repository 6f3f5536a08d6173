"""Small parts that everything long-lived shares: backing off, and owning background tasks."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

LONGEST_BACKOFF: Final = 1.0
"""The longest wait of whoever follows the log, in seconds: it goes on within 5 seconds after any failure."""


class Backoff:
    """Waits longer after each failure, with jitter so that many do not return at once.

    Args:
        first: The first wait, in seconds.
        most: The longest wait, in seconds; short, so that what works again is not late by more.
    """

    def __init__(self, *, first: float = 0.1, most: float = LONGEST_BACKOFF) -> None:
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


class Wakeup:
    """Ends the waits of those who look now and then whether anything has happened."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Let whoever waits look now."""
        if self._waiting:
            for waiting in self._waiting:
                if not waiting.done():
                    waiting.set_result(None)
            self._waiting.clear()

    async def wait(self, seconds: float) -> bool:
        """Return when woken, or after some seconds; whether it was woken."""
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait((waiting,), timeout=seconds)
            return waiting.done()
        finally:
            self._waiting.discard(waiting)


class Budget:
    """An amount that callers take from and give back to; who finds too little left waits, first come, first served.

    Args:
        total: The whole amount. Who wants more than that waits for all of it.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._left = total
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_now(self, amount: int) -> bool:
        """Take an amount if it is there and nobody waits; returns whether it was."""
        amount = min(amount, self._total)
        if self._left < amount or self._waiting:
            return False
        self._left -= amount
        return True

    async def take(self, amount: int) -> None:
        """Take an amount, when it is there."""
        if self.take_now(amount):
            return
        amount = min(amount, self._total)
        waiter = amount, asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            await waiter[1]
        except asyncio.CancelledError:
            if not waiter[1].cancelled():
                self._left += amount
            raise
        finally:
            # Only now, and not when it was granted: who comes between the two would be before it.
            self._waiting.remove(waiter)
            self._grant()

    def give(self, amount: int) -> None:
        """Give an amount back."""
        self._left += min(amount, self._total)
        self._grant()

    def _grant(self) -> None:
        """Give to those in front; where somebody is about to wake up, whoever wakes up goes on with those behind."""
        for amount, granted in self._waiting:
            if granted.done() or self._left < amount:
                return
            self._left -= amount
            granted.set_result(None)


def is_cancelled() -> bool:
    """Whether somebody wants the current task to end: a `CancelledError` that comes by otherwise is only a failure."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


async def ended(task: asyncio.Task[Any]) -> None:
    """Cancel a task, wait until it is over, and drop what it ended with."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()


@asynccontextmanager
async def running(*work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run coroutines in the background of the block and cancel them at its end; if one fails, the block ends with it.

    Raises:
        Exception: What a coroutine failed with, as it is.
    """
    before, told_to_end = _cancels(), False
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(coroutine) for coroutine in work]
            try:
                yield
            except asyncio.CancelledError:
                # The group cancels the block, too, when a coroutine has failed. Only here both can be told apart: a
                # group that failed while it was waited for leaves the count too high (Python 3.11 and 3.12).
                told_to_end = _cancels() - before > getattr(group, "_parent_cancel_requested", False)
                raise
            finally:
                for one in tasks:
                    one.cancel()
    except BaseExceptionGroup as failures:
        _raise_single(failures, told_to_end=told_to_end)


def _cancels() -> int:
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def _raise_single(failures: BaseExceptionGroup[BaseException], *, told_to_end: bool) -> None:
    """Raise one failure of a group by itself: callers catch typed errors, not groups.

    Things fail together: a lease is lost, and so is what is done under it. What a retry can mend says nothing beside
    what it cannot; of several that it cannot, none is left out. And who was told to end does so: Python 3.11 and 3.12
    let a failure hide a cancel that came with it, and whoever tries again would go on for ever.
    """
    leaves = {id(error): error for error in _leaves(failures)}.values()
    grave = [error for error in leaves if not getattr(error, "retryable", False)]
    if len(grave) > 1:
        raise failures
    if told_to_end and not grave:
        raise asyncio.CancelledError from failures
    only = grave[0] if grave else next(iter(leaves))
    raise only from only.__cause__


def _leaves(failures: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in failures.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error
