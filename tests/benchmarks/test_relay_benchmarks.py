from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from benchmarks import __main__ as bench
from benchmarks import loops, ours, raw, server, workers
from benchmarks.broker import create_topic, topics
from benchmarks.debezium import connect
from benchmarks.debezium.locks import CONNECT, CONNECTOR, connect_version, connector_version
from benchmarks.debezium.outbox import opened_outbox
from benchmarks.debezium.relay import Debezium
from benchmarks.filling import copy_streams
from benchmarks.machine import kafka_version
from benchmarks.pacing import paced
from benchmarks.peers.environments import CannotBeHadError
from benchmarks.relays import RelayFailedError, relaying
from benchmarks.results import OURS, Row
from benchmarks.works.relaying import ACKNOWLEDGED, Percentiles
from eventstore.devserver import DevServerError
from eventstore.devserver.maven import read_lock
from eventstore.kafka import KafkaSettings
from eventstore.lifecycle import running
from eventstore.projections import ProjectionWorker
from fixtures.committed import read_committed
from fixtures.postgres import REQUIRED
from fixtures.run import unavailable

DEBEZIUM = "EVENTSTORE_BENCH_DEBEZIUM"
"""Set it to run Debezium in the tests too: it downloads 42 MB and takes a minute."""

ROWS = "publish,publish-latency,project,project-latency,relay-memory"


@pytest.fixture(scope="module")
def decoded_dsn(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server with the settings of the rows that have Kafka."""
    try:
        running_server = server.start(tmp_path_factory.mktemp("bench"), server.DECODED)
    except DevServerError as error:
        unavailable(REQUIRED, error)
    yield running_server.dsn
    running_server.remove()


@pytest.fixture
async def log_dsn(decoded_dsn: str) -> AsyncIterator[str]:
    """A database whose log has 500 events in 25 streams."""
    databases = await asyncio.to_thread(server.Databases, decoded_dsn, f"benchlog{os.getpid()}")
    async with databases.fresh() as dsn:
        await copy_streams(dsn, 500)
        yield dsn


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_quick_run_measures_what_leaves_the_log_and_says_why_debezium_was_left_out(
    decoded_dsn: str, kafka_bootstrap: str, tmp_path: Path
) -> None:
    options = ["--dsn", decoded_dsn, "--kafka", kafka_bootstrap, "--state", str(tmp_path), "--quick", "--rounds", "1"]
    assert bench.main([*options, "--only", ROWS]) == 0

    rows = json.loads((tmp_path / "quick" / "results.json").read_text())["rows"]
    assert set(rows) == set(ROWS.split(","))
    assert all(value > 0 for row in rows.values() for values in row["samples"].values() for value in values)
    assert rows["publish"]["ratio"] > 0
    assert rows["publish"]["met"] in {None, False}
    for name in ("publish", "publish-latency"):
        assert "--peers debezium" in rows[name]["missing"][Debezium().label]
    ways = (OURS, ACKNOWLEDGED)
    assert set(rows["publish-latency"]["samples"]) == {f"{way}, {p}" for way in ways for p in ("p50", "p99")}
    assert len(rows["project-latency"]["samples"]) == 4
    assert [check["reach"] for check in rows["relay-memory"]["checks"]] == [100, 4] * 3


# --- the measure is what it says -------------------------------------------------------------------------------------


async def test_the_loop_by_hand_publishes_what_the_publisher_does(log_dsn: str, kafka_bootstrap: str) -> None:
    settings = KafkaSettings(kafka_bootstrap)
    async with topics(kafka_bootstrap) as prefix, ours.opened(log_dsn) as store, raw.pool(log_dsn, 1) as pool:
        for topic in ("events", "loop"):
            await create_topic(kafka_bootstrap, f"{prefix}{topic}")
        publisher = workers.publisher(store, kafka_bootstrap, prefix)
        async with running(publisher.run()):
            await publisher.progress.caught_up(store.log, within=30)
        async with loops.producing(kafka_bootstrap) as producer:
            assert await loops.publish(pool, producer, f"{prefix}loop", 500) == 500

        published, looped = [await read_committed(settings, f"{prefix}{topic}") for topic in ("events", "loop")]

    assert len(published) == 500
    assert [_compared(record) for record in published] == [_compared(record) for record in looped]


def _compared(record: Any) -> Any:
    headers = dict(record.headers)
    return record.partition, record.key, record.value, record.timestamp, headers | {"ce_source": b"of each its own"}


async def test_the_loop_by_hand_projects_what_the_projection_does(log_dsn: str) -> None:
    async with ours.opened(log_dsn) as store, raw.pool(log_dsn, 1) as pool:
        await ProjectionWorker(store, workers.balances("projected")).run_until_caught_up()
        await pool.execute(loops.BALANCES)
        assert await loops.project(pool, 500) == 500

        projected = await pool.fetch("SELECT * FROM projected_v1.balances ORDER BY account")
        assert projected == await pool.fetch("SELECT * FROM balances ORDER BY account")
    assert len(projected) == 25


async def test_a_load_goes_on_though_nothing_is_answered() -> None:
    begun: list[int] = []
    all_begun = asyncio.Event()

    async def call(number: int) -> None:
        begun.append(number)
        if len(begun) == 50:
            all_begun.set()
        await all_begun.wait()

    async with asyncio.timeout(10):
        await paced(50, call)

    assert begun == list(range(50))


async def test_a_row_has_both_percentiles_of_each_round() -> None:
    row = Row("latency", "work", "ms", lower_is_better=True)
    percentiles = Percentiles(row)

    async def ages() -> list[float]:
        await asyncio.sleep(0)
        return [float(number) for number in reversed(range(100))]

    way = percentiles.of("way", ages)
    row.samples = {"way": [await way(), await way()]}
    percentiles.close()

    assert row.samples == {"way, p50": [50.0, 50.0], "way, p99": [99.0, 99.0]}


async def test_a_worker_that_fails_in_its_process_is_told(
    kafka_bootstrap: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(RelayFailedError):
        async with relaying("publish", "postgresql://nobody@127.0.0.1:1/none", kafka_bootstrap, "none."):
            pass
    assert "Traceback" in capfd.readouterr().err


async def test_a_slot_that_a_killed_run_left_keeps_no_database(decoded_dsn: str) -> None:
    databases = await asyncio.to_thread(server.Databases, decoded_dsn, "benchslots")
    dsn = await asyncio.to_thread(databases.make)
    await server.execute(dsn, "SELECT pg_create_logical_replication_slot('left_over', 'pgoutput')")

    await asyncio.to_thread(server.Databases, decoded_dsn, "benchslots")

    connection = await asyncpg.connect(decoded_dsn)
    assert await connection.fetchval("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'left_over'") == 0
    assert await connection.fetchval("SELECT count(*) FROM pg_database WHERE datname = $1", dsn.rpartition("/")[2]) == 0
    await connection.close()


# --- Debezium --------------------------------------------------------------------------------------------------------


def test_debezium_is_locked_at_3_3_and_connect_at_the_brokers_version() -> None:
    assert connector_version().startswith("3.3.")
    assert connect_version() == kafka_version()
    for lock in (CONNECT, CONNECTOR):
        assert all(len(artifact.sha256) == 64 and artifact.size > 0 for artifact in read_lock(lock))


async def test_debezium_is_not_measured_on_a_server_that_does_not_decode_its_log(dsn: str) -> None:
    with pytest.raises(CannotBeHadError, match="wal_level=logical"):
        async with Debezium(left_out=None).running(dsn, "127.0.0.1:1"):
            pass


@pytest.mark.skipif(DEBEZIUM not in os.environ, reason=f"downloads 42 MB and takes a minute: set {DEBEZIUM}=1")
async def test_debezium_routes_the_outbox_to_its_topic(log_dsn: str, kafka_bootstrap: str, tmp_path: Path) -> None:
    settings = KafkaSettings(kafka_bootstrap)
    worker = await asyncio.to_thread(connect.start, tmp_path, kafka_bootstrap)
    try:
        async with (
            topics(kafka_bootstrap) as prefix,
            opened_outbox(worker, log_dsn, kafka_bootstrap, f"{prefix}outbox") as outbox,
            raw.pool(log_dsn, 1) as pool,
        ):
            await outbox.stop()
            await outbox.refill(500)
            await outbox.route(500)
            records = await read_committed(settings, outbox.topic)
            rows = await pool.fetch("SELECT stream_id, data FROM outbox.events")
    finally:
        await asyncio.to_thread(worker.stop)

    assert sorted((record.key.decode(), record.value.decode()) for record in records) == sorted(map(tuple, rows))
