"""Running one operation over and over from several callers at once, for a while or for a number of times.

This module imports nothing but the standard library, because the peers' environments share it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from statistics import median

AsyncStep = Callable[[], Awaitable[object]]
Step = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Race:
    """What several callers did in a while.

    Attributes:
        seconds: From the start to the end of the last call.
        counts: How often each caller succeeded.
        durations: How long each call took, if that was asked for.
    """

    seconds: float
    counts: list[int]
    durations: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Successes a second, all callers together."""
        return sum(self.counts) / self.seconds

    @property
    def starvation(self) -> float:
        """How far the slowest caller is behind: the median caller's successes over its own; 1 is perfectly fair."""
        return median(self.counts) / max(min(self.counts), 0.5)


async def race(callers: int, seconds: float, make: Callable[[int], AsyncStep], *, timed: bool = False) -> Race:
    """Run each caller's step until the time is over, all as tasks of this loop."""
    counts = [0] * callers
    durations: list[float] = []
    steps = [make(number) for number in range(callers)]
    began = time.perf_counter()
    deadline = began + seconds

    async def call(number: int) -> None:
        step = steps[number]
        before = time.perf_counter()
        while before < deadline:
            await step()
            after = time.perf_counter()
            counts[number] += 1
            if timed:
                durations.append(after - before)
            before = after

    await asyncio.gather(*map(call, range(callers)))
    return Race(time.perf_counter() - began, counts, durations)


def race_in_threads(callers: int, seconds: float, make: Callable[[int], Step]) -> Race:
    """Do the same with a thread for each caller, for libraries that block."""
    counts = [0] * callers
    steps = [make(number) for number in range(callers)]
    failures: list[BaseException] = []
    began = time.perf_counter()
    deadline = began + seconds

    def call(number: int) -> None:
        step = steps[number]
        try:
            while time.perf_counter() < deadline:
                step()
                counts[number] += 1
        except BaseException as error:  # noqa: BLE001 - told below, in the thread that waits
            failures.append(error)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return Race(time.perf_counter() - began, counts)
