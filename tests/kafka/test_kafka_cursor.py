"""The cursor: found whatever lies between it and the end of its topic, and never guessed."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from eventstore.errors import CursorTooLargeError, HangingTransactionError, LogMismatchError
from eventstore.kafka.cursor import Cursor, Layout, Parked, read_cursor
from eventstore.kafka.producer import RecordBatch, TransactionalProducer, new_builder, started_producer
from eventstore.kafka.topics import CURSOR_TOPIC
from eventstore.subscriptions import Checkpoint
from fixtures.kafka_tools import Kafka

EVENT_ID = UUID("01890a5d-ac96-774b-bcce-b302099a8057")


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    """A cursor topic with nothing in it."""
    name = f"{kafka.prefix}cursor"
    await kafka.create_topic(name, 1, **dict(CURSOR_TOPIC))
    return name


def cursor_at(position: int) -> Cursor:
    return Cursor(Checkpoint(position, EVENT_ID, 2), {"order": 3})


def record(topic: str, value: bytes) -> RecordBatch:
    builder = new_builder(10_000)
    builder.append(timestamp=None, key=b"cursor", value=value, headers=[])
    return RecordBatch(topic, 0, builder)


async def abandon(producer: TransactionalProducer, topic: str, value: bytes) -> None:
    """Write a record in a transaction that is then aborted."""
    await producer._producer.begin_transaction()
    await producer._send([record(topic, value)])
    await producer._producer.abort_transaction()


async def test_without_any_the_log_is_published_from_its_start(kafka: Kafka, topic: str) -> None:
    assert await read_cursor(kafka.settings, "test", topic) == Cursor()


async def test_the_last_committed_one_counts(kafka: Kafka, topic: str) -> None:
    async with started_producer(kafka.settings, topic) as producer:
        for position in (1, 2, 3):
            await producer.commit([record(topic, cursor_at(position).encode())])
        await abandon(producer, topic, cursor_at(4).encode())
    assert await read_cursor(kafka.settings, "test", topic) == cursor_at(3)


async def test_it_is_found_far_behind_the_end(kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.kafka.cursor._FIRST_STEP", 2)
    monkeypatch.setattr("eventstore.kafka.cursor._STEP_FACTOR", 3)
    async with started_producer(kafka.settings, topic) as producer:
        for position in (1, 2):
            await producer.commit([record(topic, cursor_at(position).encode())])
        for _ in range(30):
            await abandon(producer, topic, cursor_at(99).encode())
    assert await read_cursor(kafka.settings, "test", topic) == cursor_at(2)


async def test_only_aborted_ones_are_none(kafka: Kafka, topic: str) -> None:
    async with started_producer(kafka.settings, topic) as producer:
        for _ in range(3):
            await abandon(producer, topic, cursor_at(99).encode())
    assert await read_cursor(kafka.settings, "test", topic) == Cursor()


@pytest.mark.parametrize(
    "value",
    [b"", b"hello", b"[]", b"{}", b'{"format": 2}', cursor_at(1).encode().replace(b'"format": 2', b'"format": 3')],
)
async def test_a_record_that_is_no_cursor_is_refused(kafka: Kafka, topic: str, value: bytes) -> None:
    async with started_producer(kafka.settings, topic) as producer:
        await producer.commit([record(topic, value)])
    with pytest.raises(LogMismatchError):
        await read_cursor(kafka.settings, "test", topic)


async def test_a_transaction_that_nobody_ends_raises_an_alarm(
    kafka: Kafka, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.cursor.BROKER_SCAN", 0.0)
    impatient = replace(kafka.settings, answer_within=0.5, transaction_timeout=1.0)
    async with started_producer(kafka.settings, topic) as producer:
        await producer.commit([record(topic, cursor_at(1).encode())])
        async with started_producer(kafka.settings, f"{topic}-{uuid4()}") as other:
            await other._producer.begin_transaction()
            await other._send([record(topic, cursor_at(2).encode())])
            with pytest.raises(HangingTransactionError, match=topic):
                await read_cursor(impatient, "test", topic)


def test_it_comes_back_as_it_was_written() -> None:
    assert Cursor.decode("test", cursor_at(7).encode()) == cursor_at(7)


def test_what_is_parked_and_the_layout_come_back_too() -> None:
    parked = {"order-1": Parked(7, 3, "too large", "2026-01-01T00:00:00+00:00")}
    cursor = Cursor(Checkpoint(9, EVENT_ID, 2), {"order": 3}, parked, Layout(4, 2), 8)
    assert Cursor.decode("test", cursor.encode()) == cursor


def test_a_cursor_of_before_there_were_groups_is_that_of_the_only_one() -> None:
    written = f'{{"format": 1, "position": 7, "event_id": "{EVENT_ID}", "epoch": 2, "partitions": {{"order": 3}}}}'
    assert Cursor.decode("test", written.encode()) == cursor_at(7)


async def test_a_thousand_parked_streams_with_long_names_in_any_script_fit_its_topic(kafka: Kafka, topic: str) -> None:
    reason = "é" * 150
    parked = {
        f"{'ü' * 120}-{'é' * 250}{number:04d}": Parked(10**9, 1, reason, "2026-01-01T00:00:00+00:00")
        for number in range(1000)
    }
    cursor = replace(cursor_at(10**9), parked=parked)
    assert len(cursor.encode()) > 1024 * 1024
    cursor.require_room("test")
    async with started_producer(kafka.settings, topic) as producer:
        await producer.commit([cursor.record(topic)])
    assert await read_cursor(kafka.settings, "test", topic) == cursor


def test_one_that_would_outgrow_its_topic_is_an_error_that_no_retry_mends() -> None:
    parked = {f"order-{number}": Parked(1, 1, "x" * 3000, "") for number in range(1000)}
    with pytest.raises(CursorTooLargeError, match="1000 parked streams") as refused:
        replace(cursor_at(1), parked=parked).require_room("orders")
    assert not refused.value.retryable
