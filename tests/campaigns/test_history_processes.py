"""Eight processes append to shared streams and follow the log at once; their histories are merged and judged.

make campaign            the long form: 1,000 appends a process
make test                the quick form: 60
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import asyncpg
import pytest

from fixtures.history.judging import Judge, announced_seed, verdicts
from fixtures.history.model import Event, History, LogRead, Verdict
from fixtures.history.process import merged, read_back
from fixtures.history.recording import final_log

TESTS = Path(__file__).parent.parent
PROCESSES = 8
LEAST_STREAMS = 5


class Worker:
    """A process of `fixtures.history.process`."""

    def __init__(self, dsn: str, number: int, appends: int, seed: int) -> None:
        arguments = [dsn, f"process {number}", str(max(LEAST_STREAMS, appends // 25)), str(appends), str(seed)]
        paths = os.pathsep.join([str(TESTS.parent), str(TESTS)])
        self._popen = subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "fixtures.history.process", *arguments],
            env={**os.environ, "PYTHONPATH": paths},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def wait_for(self, state: str) -> None:
        assert self._popen.stdout is not None
        assert self._popen.stdout.readline().strip() == state

    def go_on(self) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write("go\n")
        self._popen.stdin.flush()

    def history(self) -> History:
        assert self._popen.stdout is not None
        return read_back(self._popen.stdout.readline())

    def end(self) -> None:
        self._popen.kill()
        self._popen.communicate()


@contextmanager
def workers(dsn: str, appends: int, seed: int, processes: int) -> Iterator[Sequence[Worker]]:
    with ExitStack() as stack:
        started = []
        for number in range(processes):
            started.append(Worker(dsn, number, appends, seed))
            stack.callback(started[-1].end)
        yield started


async def play(
    dsn: str, connection: asyncpg.Connection, appends: int, seed: int, processes: int = PROCESSES
) -> History:
    """Let all processes work, and return their merged history."""
    quiet = 0.0
    with workers(dsn, appends, seed, processes) as started:
        for state in ("ready", "written"):
            for worker in started:
                worker.wait_for(state)
            quiet = time.monotonic()  # when all have written
            for worker in started:
                worker.go_on()
        history = merged([worker.history() for worker in started])
    history.quiet.append(quiet)
    history.log = await final_log(connection)
    return history


async def test_eight_processes_at_once_append_and_follow_correctly(
    dsn: str, connection: asyncpg.Connection, pytestconfig: pytest.Config
) -> None:
    judge = Judge()
    history = await play(dsn, connection, 1_000 if pytestconfig.getoption("campaign") else 60, announced_seed())

    judge.accept("eight processes", history)

    judge.report("eight processes")
    assert len({append.event_ids[0].split("/")[0] for append in history.appends}) == PROCESSES


async def test_one_event_withheld_from_one_of_several_processes_is_found(
    dsn: str, connection: asyncpg.Connection
) -> None:
    """The merged history is judged as sharply as a small one."""
    history = await play(dsn, connection, 40, seed=1, processes=2)
    withheld = history.log[len(history.log) // 2]
    victim = history.log_reads[0].reader
    history.log_reads = [_without(read, withheld) if read.reader == victim else read for read in history.log_reads]

    assert verdicts(history) == {Verdict.SKIPPED}


def _without(read: LogRead, event: Event) -> LogRead:
    events = [shown for shown in read.events if shown != event]
    return LogRead(read.reader, read.begun, read.ended, events, read.drained)
