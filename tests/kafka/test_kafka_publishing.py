"""Publishing: every event once and in the order of its stream, wherever a publisher is stopped."""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from eventstore import EventStore
from eventstore.errors import ClosedError, UnavailableError
from eventstore.events import Position
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.packing import partition_of
from eventstore.kafka.producer import RecordBatch, TransactionalProducer, new_builder, started_producer
from eventstore.streams import ANY
from eventstore.subscriptions import Checkpoints, Leases
from fixtures.kafka_tools import Kafka, eventually, fill, is_whole, publish_all, stop, working
from fixtures.shop import SHIPPED, placed

TESTS = Path(__file__).parent.parent


async def test_a_reader_of_committed_records_sees_every_event_once_and_in_order(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=20, events=5)
    await publish_all(kafka, store, batch=30)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=5)


async def test_what_arrives_is_what_the_log_holds(kafka: Kafka, store: EventStore) -> None:
    with_everything = placed(3, sku="grüner Tee ☕")
    result = await store.append("order-1", [with_everything, SHIPPED], expected_version=ANY)
    await publish_all(kafka, store)
    assert await kafka.events(kafka.orders) == await store.log.events_by_ids("order-1", result.event_ids)


@pytest.mark.parametrize("remembered", [16_384, 2])
async def test_key_partition_and_time_follow_from_the_event_however_many_streams_are_remembered(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch, remembered: int
) -> None:
    monkeypatch.setattr("eventstore.kafka.packing._REMEMBERED", remembered)
    await fill(store, streams=12, events=2)
    await publish_all(kafka, store)
    for record in await kafka.committed(kafka.orders):
        headers = dict(record.headers)
        assert record.key == headers["stream_id"]
        assert record.partition == partition_of(record.key, 3)
        version = int(headers["stream_version"])
        (event,) = await store.read_stream(record.key.decode(), from_version=version, limit=1).to_list()
        assert record.timestamp == int(event.recorded_at.timestamp() * 1000)


async def test_each_category_has_its_topic_and_the_others_stay_at_home(kafka: Kafka, store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=ANY)
    await store.append("gift-1", [placed()], expected_version=ANY)
    await store.append("secret-1", [placed()], expected_version=ANY)
    await publish_all(kafka, store, categories=["order", "gift"])
    assert [event.stream_id for event in await kafka.events(kafka.orders)] == ["order-1"]
    assert [event.stream_id for event in await kafka.events(f"{kafka.prefix}gift")] == ["gift-1"]
    assert await kafka.committed(f"{kafka.prefix}secret") == []


async def test_without_categories_topics_are_made_as_events_come(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store, categories=None)
    async with working(publisher):
        for category in ("order", "gift"):
            result = await store.append(f"{category}-1", [placed()], expected_version=ANY)
            await publisher.progress.wait_for(result.position)
            assert len(await kafka.committed(f"{kafka.prefix}{category}")) == 1


async def test_events_arrive_while_it_runs(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store)
    async with working(publisher):
        for version in range(1, 6):
            result = await store.append("order-1", [placed()], expected_version=ANY)
            await publisher.progress.wait_for(result.position)
            assert len(await kafka.committed(kafka.orders)) == version
    assert publisher.progress.events == 5


async def test_large_events_are_spread_over_transactions(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.packing.TRANSACTION_BYTES", 1000)
    monkeypatch.setattr("eventstore.kafka.packing.MAX_BATCH_BYTES", 2000)
    for _ in range(20):
        await store.append("order-1", [placed(sku="t" * 400)], expected_version=ANY)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=1, versions=20)


# --- stopping and going on -------------------------------------------------------------------------------------------


async def test_a_restart_goes_on_where_it_stopped(kafka: Kafka, store: EventStore) -> None:
    for round_ in range(1, 4):
        await fill(store, streams=5, events=2)
        await publish_all(kafka, store)
        assert is_whole(await kafka.events(kafka.orders), streams=5, versions=2 * round_)


async def test_a_cancel_at_any_moment_neither_loses_nor_doubles(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=20, events=10)
    chance = random.Random(4)
    for _ in range(15):
        publisher = kafka.publisher(store, batch=5)
        task = asyncio.create_task(publisher.run())
        await publisher.progress.until(lambda: publisher.progress.state == "working")  # noqa: B023 - awaited in this turn
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        await stop(task)
        assert task.cancelled()
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=10)


async def test_a_cancel_leaves_no_transaction_open_and_no_lease_held(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=10, events=10)
    publisher = kafka.publisher(store, batch=3)
    async with working(publisher):
        await publisher.progress.until(lambda: publisher.progress.events > 10)
    assert publisher.progress.state == "stopped"
    seen = len(await kafka.committed(kafka.orders))
    assert seen == publisher.progress.events
    assert await Leases(store.database).try_acquire("publisher:orders", "somebody else")


async def test_a_second_cancel_abandons_the_transaction_and_still_nothing_is_lost_or_doubled(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=10, events=10)
    for _ in range(5):
        publisher = kafka.publisher(store, batch=5)
        task = asyncio.create_task(publisher.run())
        await publisher.progress.until(lambda: publisher.progress.events > 0)  # noqa: B023 - awaited in this turn
        task.cancel()
        await asyncio.sleep(0)
        await stop(task)
        await store.database.fetch("release_lease", "publisher:orders", "", 0)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=10, versions=10)


async def test_whoever_waits_hears_when_it_was_stopped(kafka: Kafka, store: EventStore) -> None:
    result = await store.append("order-1", [placed()], expected_version=ANY)
    publisher = kafka.publisher(store)
    task = asyncio.create_task(publisher.run())
    await publisher.progress.wait_for(result.position)
    nobody = asyncio.create_task(publisher.progress.until(lambda: False))
    await stop(task)
    with pytest.raises(ClosedError):
        await nobody


async def test_kill_9_at_any_moment_neither_loses_nor_doubles(
    kafka: Kafka, kafka_bootstrap: str, store: EventStore, dsn: str
) -> None:
    await fill(store, streams=20, events=12)
    chance = random.Random(7)
    for _ in range(4):
        publisher = await asyncio.create_subprocess_exec(
            sys.executable,
            str(TESTS / "kafka" / "publish_until_killed.py"),
            *(dsn, kafka_bootstrap, kafka.prefix),
            stdout=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        )
        assert publisher.stdout is not None
        for _ in range(chance.randrange(1, 6)):
            assert await publisher.stdout.readline()
        await asyncio.sleep(chance.uniform(0, 0.02))  # anywhere in a transaction
        publisher.kill()
        await publisher.wait()
        async with store.transaction() as tx:  # its lease would run out in three seconds; Kafka fences it in any case
            await tx.connection.execute("DELETE FROM eventstore.leases")
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=12)


# --- two of them -----------------------------------------------------------------------------------------------------


async def test_a_second_instance_stands_by_and_takes_over(kafka: Kafka, store: EventStore) -> None:
    first, second = kafka.publisher(store, batch=2), kafka.publisher(store, batch=2)
    await fill(store, streams=5, events=4)
    first_task = asyncio.create_task(first.run())
    await first.progress.until(lambda: first.progress.state == "working")
    async with working(second):
        await first.progress.until(lambda: first.progress.events > 2)
        assert second.progress.state == "waiting"
        await stop(first_task)
        await second.progress.caught_up(store.log)
    assert first.progress.events + second.progress.events == 20
    assert is_whole(await kafka.events(kafka.orders), streams=5, versions=4)


async def test_a_zombie_is_fenced_by_the_broker(kafka: Kafka, store: EventStore) -> None:
    """An old instance that wakes up inside its transaction cannot commit, whatever PostgreSQL says about leases."""
    await fill(store, streams=5, events=2)
    await publish_all(kafka, store)
    async with started_producer(kafka.settings, kafka.declaration().fencing_id) as zombie:
        await zombie._producer.begin_transaction()
        await zombie._send([a_record(kafka.orders, b"order-0")])
        await publish_all(kafka, store)
        with pytest.raises(UnavailableError):
            await zombie.commit([a_record(kafka.orders, b"order-0")])
        with pytest.raises(ClosedError):
            await zombie.commit([])
    assert is_whole(await kafka.events(kafka.orders), streams=5, versions=2)


async def test_an_instance_that_lost_its_lease_unawares_is_fenced_and_everything_is_published_once(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=20, events=20)
    publishers = [kafka.publisher(store, batch=2) for _ in range(2)]
    async with working(*publishers):
        for _ in range(2):
            worker = await first_at_work(publishers)
            done = worker.progress.events
            await worker.progress.until(lambda: worker.progress.events > done)  # noqa: B023 - awaited in this turn
            async with store.transaction() as tx:
                await tx.connection.execute("DELETE FROM eventstore.leases")
            await worker.progress.until(lambda: worker.progress.state != "working")  # noqa: B023 - awaited in this turn
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=20)


# --- the cursor and its mirror ---------------------------------------------------------------------------------------


async def test_the_cursor_names_the_last_event_looked_at_and_the_mirror_follows(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=2, events=3)
    await publish_all(kafka, store)
    cursor = await read_cursor(kafka.settings, "test", kafka.declaration().cursor_topic)
    (last,) = (await store.read_all().to_list())[-1:]
    assert str(last.position) == str(cursor.checkpoint.position)
    assert cursor.checkpoint.event_id == last.event_id
    assert cursor.partitions == {kafka.orders: 3}
    assert await Checkpoints(store.database).load("publisher:orders") == cursor.checkpoint


async def test_events_that_nobody_wants_move_the_cursor_without_a_transaction_each(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.relaying.CARRY_SECONDS", 0.05)
    publisher = kafka.publisher(store)
    async with working(publisher):
        for _ in range(10):
            result = await store.append("note-1", [placed()], expected_version=ANY)
            await publisher.progress.wait_for(result.position)
        cursors = await kafka.committed(kafka.declaration().cursor_topic)
        assert len(cursors) < 10

        async def has_come_to_the_end() -> bool:
            cursor = await read_cursor(kafka.settings, "test", kafka.declaration().cursor_topic)
            return Position(cursor.checkpoint.position) == result.position

        await eventually(has_come_to_the_end)
    assert await kafka.committed(kafka.orders) == []


# --- what goes wrong by itself ---------------------------------------------------------------------------------------


async def test_lost_database_connections_are_survived(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store, batch=3)
    async with working(publisher):
        for _ in range(3):
            await fill(store, streams=5, events=2)
            await publisher.progress.until(lambda: publisher.progress.state == "working")
            async with store.transaction() as tx:
                await tx.connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
        await publisher.progress.caught_up(store.log)
    assert is_whole(await kafka.events(kafka.orders), streams=5, versions=6)


@pytest.mark.parametrize("lost", ["the transaction", "its answer"])
async def test_when_a_commit_fails_only_the_cursor_says_whether_it_happened(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    calls = itertools.count(1)
    commit = TransactionalProducer.commit

    async def fails_every_third_time(self: TransactionalProducer, batches: Sequence[RecordBatch]) -> None:
        fails = next(calls) % 3 == 0
        if fails and lost == "the transaction":
            await self._producer.begin_transaction()
            await self._send(batches)
            raise UnavailableError("cut off before the commit")
        await commit(self, batches)
        if fails:
            raise UnavailableError("cut off after the commit")

    monkeypatch.setattr(TransactionalProducer, "commit", fails_every_third_time)
    await fill(store, streams=10, events=6)
    await publish_all(kafka, store, batch=5)
    assert next(calls) > 12
    assert is_whole(await kafka.events(kafka.orders), streams=10, versions=6)


async def test_an_unreachable_broker_is_waited_for(kafka: Kafka, store: EventStore) -> None:
    nowhere = Kafka(replace(kafka.settings, bootstrap="127.0.0.1:1"), kafka.prefix)
    publisher = nowhere.publisher(store)
    async with working(publisher) as (task,):
        for state in ("starting", "waiting", "starting"):
            await publisher.progress.until(lambda: publisher.progress.state == state)  # noqa: B023 - awaited in this turn
        assert not task.done()


async def first_at_work(publishers: Sequence[KafkaPublisher]) -> KafkaPublisher:
    """Wait until one of them publishes."""

    async def at_work(publisher: KafkaPublisher) -> KafkaPublisher:
        await publisher.progress.until(lambda: publisher.progress.state == "working")
        return publisher

    waiting = [asyncio.create_task(at_work(publisher)) for publisher in publishers]
    done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    return done.pop().result()


def a_record(topic: str, key: bytes) -> RecordBatch:
    builder = new_builder(10_000)
    builder.append(timestamp=None, key=key, value=b"{}", headers=[])
    return RecordBatch(topic, partition_of(key, 3), builder)
