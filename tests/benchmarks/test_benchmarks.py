from __future__ import annotations

import asyncio
import itertools
import json
import random
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID
from xml.etree import ElementTree as ET

import pytest

from benchmarks import __main__ as bench
from benchmarks import pgbench, report, server
from benchmarks.context import QUICK, Context
from benchmarks.payload import EVENTS_PER_STREAM, fields
from benchmarks.peers import client
from benchmarks.peers.environments import LIBRARIES
from benchmarks.peers.serving import AsyncPeer, Served, Unsupported
from benchmarks.racing import race, race_in_threads
from benchmarks.results import OURS, Row, entry, load, merge
from benchmarks.rounds import interleave
from benchmarks.works import WORKS, Work, chosen
from eventstore.devserver import DevServerError

ABOUT = {"rounds": 2, "seed": 1, "quick": True, "at": "2024-01-01T00:00:00+00:00", "commit": "0", "pace": 50.1}


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_quick_run_writes_work_ratio_reach_met_and_samples_of_each_row_and_describes_the_machine(
    durable_dsn: str, tmp_path: Path
) -> None:
    options = ["--dsn", durable_dsn, "--state", str(tmp_path), "--quick", "--rounds", "2", "--peers", "none"]
    assert bench.main([*options, "--only", "latency,snapshot"]) == 0

    content = json.loads((tmp_path / "quick" / "results.json").read_text())
    assert set(content["rows"]) == {"latency", "snapshot"}
    row = content["rows"]["latency"]
    assert row["work"] == "one caller, latency p50 of one append"
    assert row["reach"] == "≤ 1"
    assert row["ratio"] > 0
    assert row["met"] is (row["ratio"] <= 1)
    assert len(row["samples"][OURS]) == 2
    assert row["run"]["quick"] is True
    assert row["run"]["pace"] > 0
    trips = content["rows"]["snapshot"]["checks"][1]
    assert (trips["name"], trips["met"]) == ("round trips of a load", True)
    assert trips["ratio"] >= 1
    machine = content["machine"]
    for field in ("cpu", "cores", "memory_gib", "kernel", "postgresql", "python", "peers", "packages", "commit"):
        assert machine[field], field
    assert machine["settings"]["fsync"] == machine["settings"]["synchronous_commit"] == "on"
    assert {"shared_buffers", "max_wal_size"} <= set(machine["settings"])
    page = (tmp_path / "quick" / "benchmarks.md").read_text()
    assert "benchmarks/latency.svg" in page


def test_a_row_that_fails_leaves_the_others_and_fails_the_command(
    durable_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def broken(_: Context) -> Row:
        raise LookupError("broken on purpose")

    async def sound(_: Context) -> Row:
        row = _row("load", ours=[1.0], raw=[1.0])
        row.compare("over raw", "raw", "ours", "raw", at_least=1)
        return row

    monkeypatch.setitem(WORKS, "latency", Work(broken))
    monkeypatch.setitem(WORKS, "load", Work(sound))

    options = ["--dsn", durable_dsn, "--state", str(tmp_path), "--quick", "--only", "latency,load"]
    assert bench.main(options) == 1

    assert set(load(tmp_path / "quick" / "results.json")["rows"]) == {"load"}
    assert "broken on purpose" in capsys.readouterr().err


async def test_pgbench_runs_the_same_insert(durable_dsn: str, tmp_path: Path) -> None:
    databases = await asyncio.to_thread(server.Databases, durable_dsn, "benchpg")
    async with databases.fresh() as dsn:
        assert await pgbench.run(dsn, clients=2, seconds=1, number=1, directory=tmp_path) > 0


def test_a_server_that_may_lose_data_is_refused(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--dsn", dsn, "--state", str(tmp_path), "--quick", "--only", "latency"]) == 1

    assert "fsync, synchronous_commit, full_page_writes must be on" in capsys.readouterr().err


def test_a_database_in_memory_is_refused() -> None:
    with pytest.raises(DevServerError, match="on tmpfs"):
        server.filesystem_of("/dev/shm/bench")  # noqa: S108 - never touched


# --- rounds and races ------------------------------------------------------------------------------------------------


async def test_each_round_runs_each_subject_once_in_an_order_of_its_own_and_warm_up_does_not_count() -> None:
    order: list[str] = []

    def subject(name: str) -> Any:
        async def run() -> float:
            order.append(name)
            return float(len(order))

        return run

    names = ["a", "b", "c", "d"]
    samples = await interleave({name: subject(name) for name in names}, rounds=5, chance=random.Random(3))

    rounds = [order[start : start + 4] for start in range(0, len(order), 4)]
    assert len(rounds) == 6
    assert all(sorted(each) == names for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert all(len(samples[name]) == 5 and min(samples[name]) > 4 for name in names)


async def test_a_subject_that_fails_is_left_out_with_all_its_figures() -> None:
    figures = iter([1.0, 2.0])
    heard: list[str] = []

    async def fails_in_the_second_round() -> float:
        try:
            return next(figures)
        except StopIteration:
            raise LookupError("no more") from None

    async def works() -> float:
        return 1.0

    samples = await interleave(
        {"works": works, "fails": fails_in_the_second_round},
        rounds=4,
        chance=random.Random(1),
        give_up={LookupError: lambda name, error: heard.append(f"{name}: {error}")},
    )

    assert samples == {"works": [1.0] * 4}
    assert heard == ["fails: no more"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a look at the race's clock take a millisecond, whatever else the machine does."""
    looks = itertools.count()
    monkeypatch.setattr("benchmarks.racing.time", SimpleNamespace(perf_counter=lambda: next(looks) / 1000))


@pytest.mark.usefixtures("clock")
async def test_a_caller_that_starves_is_seen() -> None:
    def caller(number: int) -> Any:
        async def step() -> None:
            for _ in range(20 if number == 0 else 1):
                await asyncio.sleep(0)

        return step

    assert (await race(8, 0.5, caller)).starvation > 3


@pytest.mark.usefixtures("clock")
def test_threads_race_and_their_failures_are_told() -> None:
    fair = race_in_threads(4, 0.05, lambda _: lambda: None)
    assert len(fair.counts) == 4
    assert fair.rate > 0

    def broken() -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        race_in_threads(2, 0.05, lambda _: broken)


# --- results ---------------------------------------------------------------------------------------------------------


def _row(name: str = "appends-32", **samples: list[float]) -> Row:
    return Row(name, "work", "events/s", lower_is_better=False, samples=samples)


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    row = _row(ours=[10.0, 30.0, 100.0], raw=[10.0, 10.0, 10.0])
    row.compare("over raw", "raw", "ours", "raw", at_least=3)
    row.compare("under raw", "raw", "ours", "raw", at_most=2.9)

    assert row.checks[0].ratios == [1.0, 3.0, 10.0]
    assert [(check.ratio, check.met) for check in row.checks] == [(3.0, True), (3.0, False)]
    assert entry(row, ABOUT)["met"] is False


def test_the_best_peer_is_the_one_with_the_best_median() -> None:
    row = _row(ours=[10.0], slow=[1.0], quick=[2.0])
    row.compare_with_best("ours", ["slow", "quick"], at_least=8)

    assert row.checks[0].ratio == 5
    assert row.checks[0].name == "over the best Python peer (quick)"


def test_what_was_not_measured_is_neither_met_nor_missed_and_says_why() -> None:
    row = _row(ours=[1.0])
    row.missing["peer"] = "it needs another Python"
    row.compare("over peer", "peer", "ours", "peer", at_least=1)

    assert row.checks[0].reason == "it needs another Python"
    assert entry(row, ABOUT)["met"] is None


def test_rows_of_several_runs_come_together(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for name, value in (("latency", 1.0), ("load", 2.0), ("latency", 3.0)):
        row = _row(name, ours=[value], raw=[1.0])
        row.compare("over raw", "raw", "ours", "raw", at_least=1)
        merge(file, row, {"cpu": "one"}, ABOUT)

    rows = load(file)["rows"]
    assert {name: row["ratio"] for name, row in rows.items()} == {"latency": 3.0, "load": 2.0}


def test_the_report_shows_every_row_and_its_charts_are_svg(tmp_path: Path) -> None:
    machine = {
        "cpu": "one",
        "cores": 2,
        "memory_gib": 4,
        "kernel": "Linux",
        "data_directory_on": "ext4",
        "postgresql": "18",
        "settings": {"fsync": "on"},
        "python": "3.11",
        "python_of_peers": "3.13",
        "packages": {},
        "commit": "0",
    }
    for name in WORKS:
        row = _row(name, **{OURS: [2.0, 2.5], "a < b": [1.0, 1.0]})
        row.compare("over <b>", "raw", OURS, "a < b", at_least=1)
        row.compare("over nobody", "nobody", OURS, None, at_least=1)
        merge(tmp_path / "results.json", row, machine, ABOUT)

    report.write(load(tmp_path / "results.json"), tmp_path)

    page = (tmp_path / "benchmarks.md").read_text()
    for name in WORKS:
        assert f"(benchmarks/{name}.svg)" in page
    for chart in (tmp_path / "benchmarks").glob("*.svg"):
        assert ET.fromstring(chart.read_text()).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - our own
    assert "figures of a quick run" in page
    assert page.count("a million additions took 50.1 ms") == len(WORKS)


def test_rows_are_chosen_by_name_or_by_how_they_begin() -> None:
    assert chosen("appends,load") == ["appends-32", "appends-256", "load"]
    with pytest.raises(ValueError, match="there is no row 'lod'"):
        chosen("lod")


# --- peers -----------------------------------------------------------------------------------------------------------


class Remembering(AsyncPeer):
    """A library that remembers, and has neither aggregates nor an append without a version."""

    versions: dict[UUID, int]

    async def open(self) -> None:
        self.versions = {}

    async def close(self) -> None:
        self.versions.clear()

    async def append(self, stream: UUID, version: int, number: int) -> None:  # noqa: ARG002 - the interface's
        await asyncio.sleep(0)
        assert self.versions.get(stream, 0) == version
        self.versions[stream] = version + 1

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:  # noqa: ARG002 - the same
        await asyncio.sleep(0)
        self.versions[stream] += 1
        return self.versions[stream]

    async def fill(self, stream: UUID, numbers: range) -> None:
        self.versions[stream] = len(numbers)

    async def read_all(self, limit: int) -> int:
        return min(limit, sum(self.versions.values()))


async def test_a_peer_does_what_it_is_asked_and_says_what_it_has_not() -> None:
    peer = Remembering("dsn", 1)
    await peer.open()
    served = Served(peer)

    assert (await served.appends(callers=4, seconds=0.05))["rate"] > 0
    assert set(peer.versions.values()) <= set(range(1, EVENTS_PER_STREAM + 1))
    assert (await served.contention(callers=4, seconds=0.05, versioned=True))["starvation"] < 3
    with pytest.raises(Unsupported, match="no append without an expected version"):
        await served.contention(callers=4, seconds=0.05, versioned=False)
    await served.fill(streams=2, events=30)
    assert (await served.reads(limit=60))["events"] == 60
    with pytest.raises(Unsupported, match="no aggregates"):
        await served.loads(seconds=0.05)
    with pytest.raises(Unsupported, match="nobody has said how its events are copied"):
        await served.copying(copies=1)


async def test_a_peer_that_does_not_start_is_left_out_and_the_row_says_why(
    durable_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "environment", lambda _: (Path(sys.executable), {}))  # has none of the libraries
    databases = await asyncio.to_thread(server.Databases, durable_dsn, "benchpeers")
    context = Context(databases, QUICK, 1, random.Random(1), lambda _: None, tmp_path, LIBRARIES[-1:])
    row = _row()

    async with context.peers(row) as peers:
        assert peers == {}

    assert "No module named" in row.missing[LIBRARIES[-1].label]


# --- subjects --------------------------------------------------------------------------------------------------------


def test_events_have_about_250_bytes() -> None:
    assert all(240 <= len(json.dumps(fields(number))) <= 275 for number in range(1024))


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.module)
def test_each_peer_is_locked_with_hashes_and_without_addresses(library: Any) -> None:
    lock = library.lock.read_text()
    assert library.version
    assert lock.count("--hash=sha256:") >= lock.count("==") > 0
    assert "://" not in lock
