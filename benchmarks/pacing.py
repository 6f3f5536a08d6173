"""Work at a steady rate, begun when its time has come, whether what was begun before is done or not.

A caller who waits for the answer before the next call would ask less of what is slow, and so not see how slow it is.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from benchmarks.domain import deposit

if TYPE_CHECKING:
    from benchmarks.domain import Deposited

RATE: Final = 1_000
"""Events a second."""

STREAMS: Final = 500
"""The events go to so many streams in turn: no stream has two of them on the way at once."""


async def paced(number: int, call: Callable[[int], Awaitable[object]]) -> None:
    """Make so many calls at the rate, and return when all are done."""
    loop = asyncio.get_running_loop()
    began, made = loop.time(), 0
    async with asyncio.TaskGroup() as group:
        while made < number:
            due = min(number, int((loop.time() - began) * RATE) + 1)
            for index in range(made, due):
                group.create_task(_made(call, index))
            made = due
            await asyncio.sleep(began + made / RATE - loop.time())


def stamped(number: int) -> Deposited:
    """Return a deposit that says when it was made; of the size of any other."""
    return deposit(number).model_copy(update={"reference": f"{time.perf_counter_ns():032d}"})


def age(reference: str) -> float:
    """Return how long ago a deposit with this reference was made, in milliseconds, in whatever process that was."""
    return (time.perf_counter_ns() - int(reference)) / 1e6


async def _made(call: Callable[[int], Awaitable[object]], index: int) -> None:
    await call(index)
