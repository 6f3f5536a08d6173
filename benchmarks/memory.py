"""The memory that reading takes, seen in a process that does nothing else: `python -m benchmarks.memory DSN EVENTS`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks import ours
from benchmarks.domain import Deposited

_SAMPLES = 100
_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Footprint:
    """The resident set, in MiB: before reading, and while it goes on."""

    idle: float
    series: list[float]

    @property
    def above_idle(self) -> float:
        """The most that reading added."""
        return max(self.series) - self.idle

    @property
    def growth(self) -> float:
        """How far the second half's peak is above the first half's."""
        middle = len(self.series) // 2
        return max(self.series[middle:]) - max(self.series[:middle])


async def of_reading(dsn: str, events: int) -> Footprint:
    """Read so many events of a log in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.memory",
        dsn,
        str(events),
        cwd=Path(__file__).parent.parent,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the process that reads failed; it has said why")
    return Footprint(**json.loads(said))


def _resident() -> float:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MIB


async def _read(dsn: str, events: int) -> Footprint:
    async with ours.opened(dsn) as store:
        await ours.read_log(store, 1)
        idle, series, seen = _resident(), [], 0
        async for _ in store.read_all(of=Deposited, limit=events):
            seen += 1
            if seen % max(events // _SAMPLES, 1) == 0:
                series.append(_resident())
    return Footprint(idle, series)


def main() -> None:
    """Read, and write what it took to stdout."""
    dsn, events = sys.argv[1:]
    found = asyncio.run(_read(dsn, int(events)))
    sys.stdout.write(json.dumps({"idle": found.idle, "series": found.series}))


if __name__ == "__main__":
    main()
