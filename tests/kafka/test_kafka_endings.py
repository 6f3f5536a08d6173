"""Whenever a client is told to end, it leaves no connection open, and no task behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import NodeNotReadyError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from eventstore.errors import UnavailableError
from eventstore.kafka.consuming import opened_consumer
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.producer import RecordBatch, new_builder, started_producer
from eventstore.kafka.topics import opened_topics
from fixtures.kafka_tools import WITHIN, Kafka, stop


class Left:
    """What was opened and started since the test began."""

    def __init__(self) -> None:
        self.connections: list[AIOKafkaConnection] = []
        self._before = asyncio.all_tasks()

    def open(self) -> list[AIOKafkaConnection]:
        return [connection for connection in self.connections if connection.connected()]

    async def tasks(self) -> set[asyncio.Task[Any]]:
        await asyncio.sleep(0)  # the reader of a connection that was closed just now is cancelled, and not yet done
        return asyncio.all_tasks() - self._before - {asyncio.current_task()}


@pytest.fixture
async def left(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Left]:
    left = Left()
    connect = AIOKafkaConnection.connect

    async def noted(self: AIOKafkaConnection) -> Any:
        left.connections.append(self)
        return await connect(self)

    monkeypatch.setattr(AIOKafkaConnection, "connect", noted)
    yield left
    for connection in left.connections:
        connection.close()


async def opened(block: AbstractAsyncContextManager[Any]) -> None:
    async with block:
        await asyncio.Event().wait()


CLIENTS: dict[str, Callable[[Kafka], Any]] = {
    "a producer": lambda kafka: opened(started_producer(kafka.settings, kafka.prefix)),
    "the topics": lambda kafka: opened(opened_topics(kafka.settings)),
    "a consumer": lambda kafka: opened(opened_consumer(kafka.settings, kafka.prefix, [kafka.orders], "one")),
    "a cursor": lambda kafka: read_cursor(kafka.settings, "test", kafka.orders),
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_that_is_cancelled_while_it_asks_for_the_cluster_closes_that_connection(
    kafka: Kafka, left: Left, monkeypatch: pytest.MonkeyPatch, client: str
) -> None:
    asked, send = asyncio.Event(), AIOKafkaConnection.send

    def noted(self: AIOKafkaConnection, request: Any, expect_response: bool = True) -> Any:  # noqa: FBT002 - aiokafka's
        if isinstance(request, MetadataRequest):
            asked.set()
        return send(self, request, expect_response)

    monkeypatch.setattr(AIOKafkaConnection, "send", noted)
    task = asyncio.create_task(CLIENTS[client](kafka))
    await asked.wait()
    await stop(task)
    assert left.connections
    assert not left.open()
    assert not await left.tasks()


@pytest.mark.parametrize("turns", range(6))
async def test_a_fenced_producer_that_is_cancelled_while_it_ends_closes_its_connections(
    kafka: Kafka, left: Left, caplog: pytest.LogCaptureFixture, turns: int
) -> None:
    """Twice, as when a worker is stopped whose time is up; so many turns of the event loop after it began to end."""
    gc.collect()  # what earlier tests have left is none of its business
    caplog.clear()
    await kafka.create_topic(kafka.orders)
    ending = asyncio.Event()

    async def zombie() -> None:
        async with started_producer(kafka.settings, kafka.prefix) as producer:
            await fence(kafka)
            with pytest.raises(UnavailableError):
                await producer.commit([a_record(kafka.orders)])
            ending.set()

    task = asyncio.create_task(zombie())
    await ending.wait()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await stop(task)
    assert not left.open()
    assert not await left.tasks()
    gc.collect()
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


async def test_a_fenced_producer_leaves_no_task_behind_that_waits_for_the_broker(
    kafka: Kafka, left: Left, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its records are on the way to one partition when it is told of the fencing for another."""
    await kafka.create_topic(kafka.orders)
    on_the_way, send = asyncio.Event(), AIOKafkaClient.send

    async def slow(self: AIOKafkaClient, node: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            on_the_way.set()
            await asyncio.Event().wait()
        return await send(self, node, request, **options)

    monkeypatch.setattr(AIOKafkaClient, "send", slow)
    async with asyncio.timeout(WITHIN), started_producer(kafka.settings, kafka.prefix) as producer:
        await producer._producer.begin_transaction()
        sending = asyncio.create_task(producer._send([a_record(kafka.orders, partition=0)]))
        await on_the_way.wait()
        await fence(kafka)
        with pytest.raises(UnavailableError):
            await producer._send([a_record(kafka.orders, partition=1)])
    await stop(sending)
    assert not left.open()
    assert not await left.tasks()


async def test_a_producer_that_is_fenced_before_it_sends_to_one_more_partition_says_that_it_may_be_tried_again(
    kafka: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client has heard of the fencing by then, and calls the sending illegal."""
    await kafka.create_topic(kafka.orders)
    async with started_producer(kafka.settings, kafka.prefix) as producer:
        send = producer._producer.send_batch

        async def heard(*args: Any, **options: Any) -> Any:
            sent = await send(*args, **options)
            await asyncio.wait({sent}, timeout=WITHIN)
            return sent

        monkeypatch.setattr(producer._producer, "send_batch", heard)
        await fence(kafka)
        with pytest.raises(UnavailableError, match="IllegalOperation"):
            await producer.commit([a_record(kafka.orders, partition=number) for number in range(2)])


async def test_a_producer_ends_without_a_word_while_its_records_wait_to_be_sent_once_more(
    kafka: Kafka, left: Left, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As they do when the broker that leads their partition has died."""
    gc.collect()
    caplog.clear()
    await kafka.create_topic(kafka.orders)
    once_more, send, reenqueue = asyncio.Event(), AIOKafkaClient.send, MessageAccumulator.reenqueue

    async def refused(self: AIOKafkaClient, node: Any, request: Any, **options: Any) -> Any:
        if isinstance(request, ProduceRequest):
            raise NodeNotReadyError
        return await send(self, node, request, **options)

    def noted(self: MessageAccumulator, batch: Any) -> None:
        reenqueue(self, batch)
        monkeypatch.setattr(self, "drain_by_nodes", lambda **_: ({}, True))  # no partition has a leader now
        once_more.set()

    monkeypatch.setattr(AIOKafkaClient, "send", refused)
    monkeypatch.setattr(MessageAccumulator, "reenqueue", noted)
    async with asyncio.timeout(WITHIN), started_producer(kafka.settings, kafka.prefix) as producer:
        committing = asyncio.create_task(producer.commit([a_record(kafka.orders)]))
        await once_more.wait()
    await stop(committing)
    assert not left.open()
    assert not await left.tasks()
    assert not [record.getMessage() for record in caplog.records if record.name == "asyncio"]


async def fence(kafka: Kafka) -> None:
    """Start another producer with the same transactional id."""
    async with started_producer(kafka.settings, kafka.prefix):
        pass


def a_record(topic: str, *, partition: int = 0) -> RecordBatch:
    builder = new_builder(1000)
    assert builder.append(timestamp=0, key=b"order-1", value=b"{}", headers=[])
    return RecordBatch(topic, partition, builder)
