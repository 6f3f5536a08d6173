from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import asyncpg
import pytest

from benchmarks import ours, raw, server
from benchmarks.context import FULL, QUICK, Context
from benchmarks.filling import PER_STREAM, copy_anew, stream_name
from benchmarks.peers.client import PeerProcess, UnsupportedError
from benchmarks.results import OURS
from benchmarks.rounds import Subject
from benchmarks.works import big, loading
from benchmarks.works.reading import fill_peer

SIZES = replace(QUICK, seconds=0.1, long_stream=100, big=4_000, between_checkpoints=0.01)


@pytest.fixture(scope="module")
def databases(durable_dsn: str) -> Iterator[server.Databases]:
    made = server.Databases(durable_dsn, "benchrows")
    yield made
    made.close()


@pytest.fixture
def context(databases: server.Databases, tmp_path: Path) -> Context:
    """A run of one round with small sizes, without peers."""
    return Context(databases, SIZES, 1, random.Random(1), lambda _: None, tmp_path, ())


async def ask(dsn: str, query: str) -> Any:
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


# --- a grown log against a small one ---------------------------------------------------------------------------------


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many events there are, by subject, each time that its work begins."""
    counts: dict[str, list[int]] = defaultdict(list)
    turn = big.Log.turn

    def watched(log: big.Log, name: str, work: Subject, after: float = 0.0) -> Subject:
        async def counted() -> float:
            counts[name].append(await ask(log.dsn, "SELECT count(*) FROM eventstore.events"))
            return await work()

        return turn(log, name, counted, after)

    monkeypatch.setattr(big.Log, "turn", watched)
    return counts


async def test_the_small_log_is_small_at_the_start_of_each_turn_also_after_the_work_between_two_checkpoints(
    context: Context, found: dict[str, list[int]]
) -> None:
    row = await big.old(context)

    after, between = f"append at 10,000, {big.AFTER}", f"append at 10,000, {big.BETWEEN}"
    assert found[after] == [10_000] * 2  # to warm up, and the round
    assert found[between] == [10_000] * 4  # each begins with the work that goes before
    grown = found[f"append at 4,000, {big.BETWEEN}"]
    assert grown == sorted(set(grown)), "nothing was appended, or nothing was counted"
    assert f"{after}: 10,000 and 10," in row.notes[-1]
    assert f"{between}: 10,000 and 10," in row.notes[-1]
    assert all(check.ratio for check in row.checks)


async def test_new_streams_leave_the_small_log_small_for_the_next_turn(
    context: Context, found: dict[str, list[int]]
) -> None:
    row = await big.recent(context)

    assert found["append at 10,000"] == found["load at 10,000"] == [10_000] * 2
    assert "append at 10,000: 10,000 and 10," in row.notes[-1]
    assert "load at 10,000: 10,000 and 10,000" in row.notes[-1]
    assert all(check.ratio for check in row.checks)


async def test_a_log_is_filled_anew_under_an_open_store_without_a_checkpoint(context: Context) -> None:
    async with context.databases.fresh() as dsn, ours.opened(dsn) as store:
        await copy_anew(dsn, 1_000)
        await ours.fill_stream(store, stream_name(0), range(30))
        redo = await ask(dsn, "SELECT redo_lsn FROM pg_control_checkpoint()")

        await copy_anew(dsn, 1_000)

        assert await ask(dsn, "SELECT redo_lsn FROM pg_control_checkpoint()") == redo
        assert await ours.load(store, stream_name(0).partition("-")[2]) == PER_STREAM
        assert await ours.read_log(store, 2_000) == await store.log.high_water() == 1_000
        planned = "SELECT reltuples FROM pg_class WHERE oid = 'eventstore.{}'::regclass"
        assert await ask(dsn, planned.format("events")) == 1_000
        assert await ask(dsn, planned.format("streams")) == 1_000 / PER_STREAM
        with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
            await server.execute(dsn, "TRUNCATE eventstore.events")


# --- a long aggregate against the same by hand -----------------------------------------------------------------------


@pytest.mark.parametrize(("slow", "faster"), [("load_stream", loading.RAW_FOLD), ("fold_stream", loading.RAW)])
async def test_a_load_is_held_against_the_faster_of_both_ways_by_hand(
    context: Context, monkeypatch: pytest.MonkeyPatch, slow: str, faster: str
) -> None:
    async def slowly(_: asyncpg.Pool, __: str) -> int:
        await asyncio.sleep(0.05)
        return 1

    monkeypatch.setattr(raw, slow, slowly)

    row = await loading.by_replay(context)

    assert set(row.samples) == {OURS, loading.RAW, loading.RAW_FOLD}
    check = row.checks[0]
    assert check.ratios == [row.samples[OURS][0] / row.samples[faster][0]]
    assert (check.reach, check.stretch) == (0.8, 1.0)
    assert faster in row.notes[0]


async def test_what_is_folded_by_hand_is_the_whole_stream(context: Context) -> None:
    async with context.databases.fresh() as dsn, ours.opened(dsn) as store, raw.pool(dsn, 1) as pool:
        await ours.fill_stream(store, "account-a", range(50))
        assert await raw.fold_stream(pool, "account-a") == await raw.load_stream(pool, "account-a") == 50


# --- a log of a peer -------------------------------------------------------------------------------------------------


class Copied:
    """A peer that writes numbers, and reads them if it can."""

    def __init__(self, dsn: str, *, reads: bool = True) -> None:
        self.dsn = dsn
        self.asked: list[tuple[str, dict[str, int]]] = []
        self._reads = reads

    async def ask(self, work: str, **arguments: int) -> dict[str, Any]:
        self.asked.append((work, arguments))
        if work == "fill":
            written = arguments["streams"] * arguments["events"]
            await server.execute(self.dsn, f"CREATE TABLE e AS SELECT generate_series(1, {written})")
        if work == "reads" and not self._reads:
            raise UnsupportedError("it has no way to read all events")
        copies = arguments.get("copies")
        return {"sql": f"INSERT INTO e SELECT e.* FROM e, generate_series(1, {copies})"} if copies else {}


async def test_a_peer_writes_some_events_and_has_as_many_as_we_have(context: Context) -> None:
    for sizes in (QUICK, FULL):
        assert sizes.read % sizes.written_by_peers == 0
    async with context.databases.fresh(migrated=False) as dsn:
        peer = Copied(dsn)
        await fill_peer(cast("PeerProcess", peer), 200, 1_000)
        assert await ask(dsn, "SELECT count(*) FROM e") == 1_000
    assert peer.asked[1] == ("reads", {"limit": 200})


async def test_a_peer_that_cannot_read_says_so_before_its_events_are_copied(context: Context) -> None:
    async with context.databases.fresh(migrated=False) as dsn:
        with pytest.raises(UnsupportedError, match="no way to read"):
            await fill_peer(cast("PeerProcess", Copied(dsn, reads=False)), 200, 1_000)
