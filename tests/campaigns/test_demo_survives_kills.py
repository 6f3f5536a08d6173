"""SIGKILL of the demo at random moments, of its process alone or of everything: in the end the same figures.

    make campaign            the long form: 20 kills
    make test                the quick form: 2 kills

Alone, servers are left behind and must be found again; with everything, they have to recover by themselves. At the end
the topic is read, too: each of the log's events is in it once, in the order of its stream.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import pytest

from eventstore.devserver import start_kafka
from eventstore.devserver.removal import remove_servers
from eventstore.devserver.state import read_state
from eventstore.kafka import KafkaSettings
from fixtures.committed import read_committed
from fixtures.run import Run

ROOT = Path(__file__).parent.parent.parent
EVENTS = 10_000
TOPIC = "demo-small-application"
LATEST_KILL = 14.0
"""Seconds: the small demo takes 10 to 20, so that kills meet its start, its work, its catching up and its end."""


class Demo:
    """The small demo in a directory of its own, as a person would start it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / ".eventstore" / "demo"

    def start(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSTORE_")}
        for kept in ("EVENTSTORE_CACHE", "EVENTSTORE_PG_BIN"):
            if kept in os.environ:
                environment[kept] = os.environ[kept]
        return subprocess.Popen(
            [sys.executable, "-m", "examples.loans", "--small"],
            cwd=self.directory,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_after(self, seconds: float, *, everything: bool) -> str:
        """Kill it at a moment of its run; returns what it had come to."""
        process = self.start()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        if everything:
            for name in ("postgres", "kafka"):
                self._kill_server(name)
        output, _ = process.communicate()
        return output

    def _kill_server(self, name: str) -> None:
        state = read_state(self.state / name)
        if state is not None and state.process.is_running():
            with suppress(ProcessLookupError):
                os.killpg(state.pid, signal.SIGKILL)

    def finish(self) -> tuple[int, str]:
        """Run it to its end; returns its exit code and output."""
        process = self.start()
        output, _ = process.communicate(timeout=180)
        return process.returncode, output


@pytest.fixture
def demo(run: Run, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo with nothing behind it. (The broker of the run is asked for only to skip where there can be none.)"""
    del kafka_bootstrap
    directory = run.directory / tmp_path_factory.mktemp("demo").name
    directory.mkdir()
    run.endings.callback(remove_servers, directory)
    return Demo(directory)


async def test_killed_at_random_moments_it_ends_with_the_same_figures(demo: Demo, pytestconfig: pytest.Config) -> None:
    kills = 20 if pytestconfig.getoption("campaign") else 2
    seed = int(os.environ.get("EVENTSTORE_SEED", random.randrange(2**32)))
    print(f"EVENTSTORE_SEED={seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    for number in range(kills):
        seconds, everything = chance.uniform(0.2, LATEST_KILL), number % 2 == 1
        output = demo.kill_after(seconds, everything=everything)
        assert "Error" not in output, f"kill {number} after {seconds:.1f} s: {output}"

    code, output = demo.finish()

    assert code == 0, output
    assert "✗" not in output, output
    assert await published_versions(demo) == {"events": EVENTS, "doubled or out of order": 0}


async def published_versions(demo: Demo) -> dict[str, int]:
    """Read the demo's topic as its consumers do; every stream must count 1, 2, 3, ..."""
    server = start_kafka(demo.state / "kafka")
    versions: dict[bytes, list[int]] = defaultdict(list)
    try:
        for record in await read_committed(KafkaSettings(server.bootstrap), TOPIC):
            versions[record.key].append(int(dict(record.headers)["stream_version"]))
    finally:
        server.stop()
    wrong = sum(seen != list(range(1, len(seen) + 1)) for seen in versions.values())
    return {"events": sum(map(len, versions.values())), "doubled or out of order": wrong}
