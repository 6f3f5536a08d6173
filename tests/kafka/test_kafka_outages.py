"""A broker that is killed under load, which is started again: nothing is lost, doubled, or left behind."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.structs import BrokerMetadata

from eventstore import EventStore, Projection
from eventstore.devserver import DevServerError, Embedded, KafkaServer, kafka_source, start_kafka
from eventstore.kafka import KafkaProjector, KafkaPublisher, KafkaSettings
from eventstore.kafka.identities import topic_ids
from eventstore.kafka.producer import RecordBatch, TransactionalProducer
from eventstore.kafka.topics import opened_topics
from eventstore.streams import ANY
from fixtures.kafka import REQUIRED
from fixtures.kafka_tools import WITHIN, Kafka, fill, is_whole, stop, working
from fixtures.run import unavailable
from fixtures.shop import placed


class Broker:
    """A broker of the test's own, always at the same address."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.server = self.started()

    def started(self, port: int | None = None) -> KafkaServer:
        return start_kafka(self._directory, port=port, heap_mb=256)

    async def restart(self) -> None:
        """Start it again after it was killed; somebody else may hold one of its ports for a moment."""
        async with asyncio.timeout(2 * WITHIN):
            while not self.server.is_running():
                with contextlib.suppress(DevServerError):
                    self.server = await asyncio.to_thread(self.started, self.server.port)


@pytest.fixture
async def broker(tmp_path: Path) -> AsyncIterator[Broker]:
    if not isinstance(kafka_source(), Embedded):
        pytest.skip("only an embedded broker can be killed")
    try:
        broker = await asyncio.to_thread(Broker, tmp_path / "kafka")
    except DevServerError as error:
        unavailable(REQUIRED, error)
    yield broker
    await asyncio.to_thread(broker.server.remove)


async def test_a_broker_that_is_killed_under_load_costs_nothing_but_time(broker: Broker, store: EventStore) -> None:
    kafka = Kafka(KafkaSettings(broker.server.bootstrap), "")
    kafka = replace(kafka, settings=replace(kafka.settings, answer_within=2.0))
    before = asyncio.all_tasks()
    publisher = kafka.publisher(store, batch=5)
    async with working(publisher) as (task,):
        await fill(store, streams=20, events=9)
        await publisher.progress.until(lambda: publisher.progress.events > 0)
        await fill(store, streams=20, events=1)
        await asyncio.to_thread(broker.server.kill)
        await fill(store, streams=20, events=1)  # who had caught up before the kill would not notice it
        await publisher.progress.until(lambda: publisher.progress.state == "waiting")
        await broker.restart()
        await publisher.progress.caught_up(store.log)
        assert is_whole(await kafka.events(kafka.orders), streams=20, versions=11)
        await stop(task)
    assert asyncio.all_tasks() == before


async def test_a_cancel_while_the_broker_is_away_ends_soon_and_leaves_nothing_behind(
    broker: Broker, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging, commit = asyncio.Event(), TransactionalProducer.commit

    async def noted(self: TransactionalProducer, batches: Sequence[RecordBatch]) -> None:
        hanging.set()
        await commit(self, batches)

    monkeypatch.setattr(TransactionalProducer, "commit", noted)
    settings = KafkaSettings(broker.server.bootstrap, answer_within=1.0)
    publisher = Kafka(settings, "").publisher(store)
    before = asyncio.all_tasks()
    task = asyncio.create_task(publisher.run())
    await publisher.progress.until(lambda: publisher.progress.state == "working")
    await asyncio.to_thread(broker.server.kill)
    await store.append("order-1", [placed()], expected_version=ANY)
    async with asyncio.timeout(10):
        await hanging.wait()
        await stop(task)
    assert asyncio.all_tasks() == before


async def test_another_broker_is_asked_when_the_one_that_was_chosen_is_down(kafka: Kafka) -> None:
    """The client chooses one of all that it has heard of."""
    async with opened_topics(kafka.settings) as topics:
        client = topics._admin._client
        with free_port() as port:
            for _ in range(20):
                client.cluster._brokers[99] = BrokerMetadata(99, "127.0.0.1", port, None)
                assert await topics.find("none of this name") is None
                assert await topic_ids(client, ["none of this name"], WITHIN) == {}


@pytest.mark.parametrize("worker", ["publisher", "projector"])
async def test_who_cannot_reach_kafka_names_the_address_and_what_to_check_and_not_who_signs_in(
    worker: str, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    with free_port() as port:
        settings = KafkaSettings(f"127.0.0.1:{port}", sasl_username="alice", sasl_password="s3cret")  # noqa: S106 - that
        runs: KafkaPublisher | KafkaProjector = Kafka(settings, "").publisher(store)
        if worker == "projector":
            runs = KafkaProjector(store, Projection("sales", tables=["sales"]), settings, topics=["order"])
        async with working(runs):
            await runs.progress.until(lambda: runs.progress.state == "starting")
            await runs.progress.until(lambda: runs.progress.state == "waiting")
    (said, *_) = [record.getMessage() for record in caplog.records if record.name.startswith("eventstore.kafka")]
    assert f"Kafka cannot be reached at 127.0.0.1:{port} (KafkaConnectionError): check that it runs" in said
    assert "advertised listeners" in said
    assert "alice" not in caplog.text
    assert "s3cret" not in caplog.text


@contextlib.contextmanager
def free_port() -> Iterator[int]:
    """Hold a port on which nobody listens."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
