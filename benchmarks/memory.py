"""The memory that work takes, in a process that does nothing else: `python -m benchmarks.memory WORK ARGUMENT...`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks import ours, workers
from benchmarks.domain import Deposited
from eventstore.lifecycle import running
from eventstore.projections import ProjectionWorker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eventstore import EventStore
    from eventstore.runtime.workers import Worker

_SAMPLES: Final = 100
_MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resident set, in MiB: before the work, and while it goes on."""

    idle: float
    series: list[float]

    @property
    def above_idle(self) -> float:
        """The most that the work added."""
        return max(self.series) - self.idle

    @property
    def growth(self) -> float:
        """How far the second half's peak is above the first half's."""
        middle = len(self.series) // 2
        return max(self.series[middle:]) - max(self.series[:middle])


async def of(work: str, *arguments: object) -> Footprint:
    """Have work done in a process of its own.

    Args:
        work: `read`, `publish`, `project` or `project-from-kafka`.
        arguments: What the work needs to know.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.memory",
        work,
        *map(str, arguments),
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the process that was to {work} failed; it has said why")
    return Footprint(**json.loads(said))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


async def _read(dsn: str, events: str) -> Footprint:
    """Read a log; idle is the store opened and one event read."""
    async with ours.opened(dsn) as store:
        await ours.read_log(store, 1)
        idle, series, seen = _resident(), [], 0
        async for _ in store.read_all(of=Deposited, limit=int(events)):
            seen += 1
            if seen % max(int(events) // _SAMPLES, 1) == 0:
                series.append(_resident())
    return Footprint(idle, series)


async def _publish(empty: str, full: str, bootstrap: str, prefix: str) -> Footprint:
    """Publish a log, under a name that is the run's prefix and that of the log."""
    return await _worked(lambda store, name: workers.publisher(store, bootstrap, prefix, name), empty, full)


async def _project_from_kafka(empty: str, full: str, bootstrap: str, prefix: str) -> Footprint:
    """Project what was published so."""

    def projector(store: EventStore, name: str) -> Worker:
        return workers.projector(store, workers.balances(f"fed_{name}"), bootstrap, prefix, name)

    return await _worked(projector, empty, full)


async def _project(empty: str, full: str) -> Footprint:
    """Project a log."""
    return await _worked(lambda store, name: ProjectionWorker(store, workers.balances(f"followed_{name}")), empty, full)


async def _worked(make: Callable[[EventStore, str], Worker], empty: str, full: str) -> Footprint:
    """Watch a worker behind a full log; idle is one of the same kind at rest behind an empty log, in this process."""
    async with _at_work(make, empty) as (worker, store):
        await worker.progress.caught_up(store.log)
        idle = _resident()
    async with _at_work(make, full) as (worker, store):
        progress, last, series = worker.progress, await store.log.high_water(), list[float]()
        while progress.position < last:
            reached = progress.position + last // _SAMPLES
            await progress.until(lambda reached=reached: progress.position >= min(reached, last))  # type: ignore[misc]
            series.append(_resident())
    return Footprint(idle, series)


@asynccontextmanager
async def _at_work(make: Callable[[EventStore, str], Worker], dsn: str) -> AsyncIterator[tuple[Worker, EventStore]]:
    """Run the worker of a database, whose name it has."""
    async with ours.opened(dsn) as store:
        worker = make(store, name_of(dsn))
        async with running(worker.run()):
            await worker.progress.until(lambda: worker.progress.state == "working")
            yield worker, store


def name_of(dsn: str) -> str:
    """Return the name of the publisher, and of the topic, of a database's log: the database's own."""
    return dsn.rpartition("/")[2]


_WORKS: Final[dict[str, Callable[..., Awaitable[Footprint]]]] = {
    "read": _read,
    "publish": _publish,
    "project": _project,
    "project-from-kafka": _project_from_kafka,
}


async def _do(work: str, arguments: list[str]) -> Footprint:
    return await _WORKS[work](*arguments)


def main() -> None:
    """Do the work, and write what it took to stdout."""
    found = asyncio.run(_do(sys.argv[1], sys.argv[2:]))
    sys.stdout.write(json.dumps({"idle": found.idle, "series": found.series}))


if __name__ == "__main__":
    main()
