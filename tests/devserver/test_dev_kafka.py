"""What a development Kafka broker promises to whoever starts it, and to whoever comes after a crash."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventstore.devserver import DevServerError, KafkaServer, start_kafka
from eventstore.devserver.kafka_probe import cluster_id
from eventstore.devserver.ports import EPHEMERAL_FROM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fixtures.other_python import OtherPython

pytestmark = pytest.mark.usefixtures("kafka_programs")

START_AND_HOLD = """
import sys
from pathlib import Path
from eventstore.devserver import start_kafka
server = start_kafka(Path(sys.argv[1]))
print(server.pid, server.port, flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    """A broker for tests that leave it as it is."""
    server = start_kafka(tmp_path_factory.mktemp("broker") / "server", settings={"message.max.bytes": "2000000"})
    yield server
    server.remove()


async def test_committed_records_survive_a_kill_and_aborted_ones_are_never_seen(data_dir: Path, own_port: int) -> None:
    server = start_kafka(data_dir, port=own_port)
    await _make_topic(server.bootstrap, "kept")
    producer = AIOKafkaProducer(bootstrap_servers=server.bootstrap, transactional_id="test")
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait("kept", b"aborted")
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait("kept", b"committed")
    server.kill()
    assert not server.is_running()
    with start_kafka(data_dir) as again:
        assert again.pid != server.pid
        assert again.port == own_port
        consumer = AIOKafkaConsumer(
            "kept", bootstrap_servers=again.bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
        )
        async with consumer:
            assert (await consumer.getone()).value == b"committed"


def test_after_a_kill_of_its_starter_the_same_broker_is_found_again(
    data_dir: Path, other_python: Callable[..., OtherPython]
) -> None:
    starter = other_python(START_AND_HOLD, data_dir)
    pid, port = map(int, starter.line().split())
    starter.kill()
    with start_kafka(data_dir) as found:
        assert (found.pid, found.port) == (pid, port)
    assert not found.is_running()


def test_two_starters_at_once_share_one_broker(data_dir: Path, other_python: Callable[..., OtherPython]) -> None:
    one, other = other_python(START_AND_HOLD, data_dir), other_python(START_AND_HOLD, data_dir)
    assert one.line() == other.line() != ""


def test_a_log_directory_whose_making_was_cut_short_is_made_anew(data_dir: Path) -> None:
    half_made = data_dir / "kraft.new-killed"
    half_made.mkdir(parents=True)
    (half_made / "meta.properties").write_text("version=1\n")
    with start_kafka(data_dir) as server:
        assert cluster_id(server.port, timeout=5)
    assert not half_made.exists()


def test_a_damaged_log_directory_is_told_and_not_deleted(data_dir: Path) -> None:
    (data_dir / "kraft" / "topic-0").mkdir(parents=True)
    with pytest.raises(DevServerError, match=r"has no meta\.properties: delete it to begin anew"):
        start_kafka(data_dir)
    assert (data_dir / "kraft" / "topic-0").exists()


@pytest.mark.parametrize("compression", ["gzip", "lz4", "snappy", "zstd"])
async def test_it_accepts_compressed_records(broker: KafkaServer, compression: str) -> None:
    pytest.importorskip("cramjam")
    await _make_topic(broker.bootstrap, compression)
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, compression_type=compression)
    async with producer:
        sent = await producer.send_and_wait(compression, b"x" * 1000)
    assert sent.offset == 0


def test_a_taken_port_gives_way_to_one_below_the_ephemeral_range(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as elsewhere, pytest.raises(DevServerError, match="cannot listen"):
        start_kafka(data_dir, port=elsewhere.getsockname()[1])
    server = start_kafka(data_dir)
    server.stop()
    with socket.create_server(("127.0.0.1", server.port)), start_kafka(data_dir) as moved:
        assert moved.port != server.port
        assert 1024 < moved.port < EPHEMERAL_FROM


async def test_it_makes_no_topic_that_nobody_asked_for(broker: KafkaServer) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.bootstrap)
    await admin.start()
    try:
        await admin.describe_topics(["unasked"])
        assert "unasked" not in await admin.list_topics()
    finally:
        await admin.close()


async def test_settings_reach_the_broker(broker: KafkaServer) -> None:
    await _make_topic(broker.bootstrap, "large")
    producer = AIOKafkaProducer(bootstrap_servers=broker.bootstrap, max_request_size=2_000_000)
    async with producer:
        await producer.send_and_wait("large", b"x" * 1_500_000)


def test_an_error_quotes_the_end_of_the_log(data_dir: Path) -> None:
    with pytest.raises(DevServerError, match="Invalid value many for configuration"):
        start_kafka(data_dir, settings={"num.io.threads": "many"})


def test_the_state_names_the_broker_for_whoever_looks(broker: KafkaServer) -> None:
    state = json.loads((broker.data_dir / "server.json").read_text())
    assert (state["pid"], state["port"], state["version"]) == (broker.pid, broker.port, broker.version)
    assert repr(broker) == f"<KafkaServer {broker.version} on 127.0.0.1:{broker.port}, pid {broker.pid}>"


async def _make_topic(bootstrap: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, num_partitions=1, replication_factor=1)])
    finally:
        await admin.close()
