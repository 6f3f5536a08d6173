"""SIGKILL of the demo at random moments, of its process alone or of everything: in the end the same figures.

    make campaign            the long form: the whole log, 20 kills along its way
    make test                the quick form: its first 10,000 events, 2 kills

Each start goes on where the kill before it came. Alone, servers are left behind and must be found again; with
everything, they have to recover by themselves. A demo that ends before its kill is checked and begun anew, so that
every kill meets work. At the end the topic is read, too: each of the log's events is in it once, in the order of its
stream.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from eventstore.devserver import start_kafka
from eventstore.devserver.removal import remove_servers
from eventstore.devserver.state import read_state
from eventstore.kafka import KafkaSettings
from fixtures.committed import read_committed
from fixtures.run import Run

ROOT = Path(__file__).parent.parent.parent


class Form(NamedTuple):
    """How long the campaign is. `latest_kill` in seconds: kills meet the start, the work, the catching up, the end."""

    arguments: tuple[str, ...]
    events: int
    topic: str
    kills: int
    latest_kill: float


QUICK = Form(("--small",), 10_000, "demo-small-application", kills=2, latest_kill=10.0)
LONG = Form((), 262_200, "demo-application", kills=20, latest_kill=20.0)


class Demo:
    """A demo in a directory of its own, as a person would start it."""

    def __init__(self, directory: Path, form: Form) -> None:
        self.directory = directory
        self.form = form
        self.state = directory / ".eventstore" / "demo"

    def start(self) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("EVENTSTORE_")}
        for kept in ("EVENTSTORE_CACHE", "EVENTSTORE_PG_BIN"):
            if kept in os.environ:
                environment[kept] = os.environ[kept]
        return subprocess.Popen(  # noqa: S603 - our own program
            [sys.executable, "-m", "examples.loans", *self.form.arguments],
            cwd=self.directory,
            env=environment | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def kill_after(self, seconds: float, *, everything: bool) -> tuple[bool, str]:
        """Kill it at a moment of its run; returns whether it was still running, and what it had come to."""
        process = self.start()
        running = False
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            running = True
            if everything:
                os.killpg(process.pid, signal.SIGKILL)
                for name in ("postgres", "kafka"):
                    self._kill_server(name)
            else:
                process.kill()
        output, _ = process.communicate()
        return running, output

    def _kill_server(self, name: str) -> None:
        state = read_state(self.state / name)
        if state is not None and state.process.is_running():
            with suppress(ProcessLookupError):
                os.killpg(state.pid, signal.SIGKILL)

    def finish(self) -> tuple[int, str]:
        """Run it to its end; returns its exit code and output."""
        process = self.start()
        output, _ = process.communicate(timeout=600)
        return process.returncode, output


@pytest.fixture
def new_demo(run: Run, kafka_bootstrap: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Form], Demo]:
    """A demo with nothing behind it. (The broker of the run is asked for only to skip where there can be none.)"""
    del kafka_bootstrap

    def make(form: Form) -> Demo:
        directory = run.directory / tmp_path_factory.mktemp("demo").name
        directory.mkdir()
        run.endings.callback(remove_servers, directory)
        return Demo(directory, form)

    return make


async def test_killed_at_random_moments_it_ends_with_the_same_figures(
    new_demo: Callable[[Form], Demo], pytestconfig: pytest.Config
) -> None:
    form = LONG if pytestconfig.getoption("campaign") else QUICK
    seed = int(os.environ.get("EVENTSTORE_SEED", random.randrange(2**32)))
    print(f"EVENTSTORE_SEED={seed}")  # noqa: T201 - shown when the test fails
    chance = random.Random(seed)
    demo = new_demo(form)
    kills = 0
    while kills < form.kills:
        seconds, everything = chance.uniform(0.2, form.latest_kill), kills % 2 == 1
        killed, output = demo.kill_after(seconds, everything=everything)
        assert "Error" not in output, f"kill {kills} after {seconds:.1f} s: {output}"
        if killed:
            kills += 1
        else:
            await finished_right(demo)
            demo = new_demo(form)

    await finished_right(demo)


async def finished_right(demo: Demo) -> None:
    """Run it to its end: the figures agree, and the topic has every event once."""
    code, output = demo.finish()
    assert code == 0, output
    assert "✗" not in output, output
    assert await published_versions(demo) == {"events": demo.form.events, "doubled or out of order": 0}
    remove_servers(demo.directory)


async def published_versions(demo: Demo) -> dict[str, int]:
    """Read the demo's topic as its consumers do; every stream must count 1, 2, 3, ..."""
    server = start_kafka(demo.state / "kafka")
    versions: dict[bytes, list[int]] = defaultdict(list)
    try:
        for record in await read_committed(KafkaSettings(server.bootstrap), demo.form.topic):
            versions[record.key].append(int(dict(record.headers)["stream_version"]))
    finally:
        server.stop()
    wrong = sum(seen != list(range(1, len(seen) + 1)) for seen in versions.values())
    return {"events": sum(map(len, versions.values())), "doubled or out of order": wrong}
