"""A read model that is fed by Kafka: every event once, whatever comes twice, or changes hands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import EventStore, Projection, ProjectionContext, RecordedEvent
from eventstore.db.migrating import migrate
from eventstore.errors import NotCaughtUpError
from eventstore.kafka.consuming import opened_consumer
from eventstore.lifecycle import Backoff
from eventstore.streams import ANY
from fixtures.kafka_sales import app, count, counted, each, execute, project_all, projector, sales, until_counted
from fixtures.kafka_tools import WITHIN, Kafka, fill, publish_all, stop, working
from fixtures.shop import SHIPPED, OrderPlaced, placed
from fixtures.stores import open_store

# --- once ------------------------------------------------------------------------------------------------------------


async def test_every_event_is_applied_once_and_in_order(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=20, events=5)
    await publish_all(kafka, store)
    worker = await project_all(kafka, store)
    assert await counted(store) == each(20, 5)
    assert worker.progress.events == 100


async def test_a_handler_is_given_what_the_log_holds(kafka: Kafka, store: EventStore) -> None:
    seen: list[RecordedEvent[Any]] = []
    watching = Projection("watching", setup="CREATE TABLE watching (n int)")

    @watching.on(OrderPlaced)
    async def see(event: RecordedEvent[OrderPlaced], _: ProjectionContext) -> None:
        seen.append(event)

    await store.append("order-1", [placed(3, sku="grüner Tee ☕"), SHIPPED, placed()], expected_version=ANY)
    await publish_all(kafka, store)
    await project_all(kafka, store, projection=watching)
    assert seen == await store.read_stream("order-1", of=OrderPlaced).to_list()


async def test_a_topic_may_carry_categories_that_it_does_not_want(kafka: Kafka, store: EventStore) -> None:
    orders = Projection("sales", setup=sales.setup, categories=["order"])
    orders.on(OrderPlaced)(count)
    for _ in range(2):
        for stream_id in ("order-0", "note-0"):
            await store.append(stream_id, [placed()], expected_version=ANY)
    await publish_all(kafka, store, categories=["order", "note"], topic="order")
    await project_all(kafka, store, projection=orders)
    assert await counted(store) == each(1, 2)


async def test_events_arrive_while_it_runs(kafka: Kafka, store: EventStore) -> None:
    publisher, worker = kafka.publisher(store), projector(kafka, store, publishers=["orders"])
    async with working(publisher, worker):
        for version in range(1, 6):
            result = await store.append("order-0", [placed()], expected_version=ANY)
            await worker.progress.wait_for(result.position)
            assert await counted(store) == each(1, version)


async def test_it_waits_for_topics_that_are_not_made_yet(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=2)
    worker = projector(kafka, store)
    async with working(worker):
        await worker.progress.until(lambda: worker.progress.state == "starting")
        await worker.progress.until(lambda: worker.progress.state == "waiting")
        await publish_all(kafka, store)
        await worker.caught_up()
    assert await counted(store) == each(2, 2)


async def test_a_restart_goes_on_where_the_read_model_is(kafka: Kafka, store: EventStore) -> None:
    for round_ in range(1, 4):
        await fill(store, streams=5, events=2)
        await publish_all(kafka, store)
        worker = await project_all(kafka, store)
        assert await counted(store) == each(5, 2 * round_)
        assert worker.progress.events == 10


async def test_a_cancel_at_any_moment_neither_loses_nor_doubles(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.feeding.BATCH", 7)
    await fill(store, streams=20, events=10)
    await publish_all(kafka, store)
    for turns in range(0, 60, 6):
        worker = projector(kafka, store)
        async with working(worker):
            await worker.progress.until(lambda: worker.progress.events > 0)  # noqa: B023 - awaited in this turn
            for _ in range(turns):
                await asyncio.sleep(0)
    await project_all(kafka, store)
    assert await counted(store) == each(20, 10)


async def test_records_that_come_again_change_nothing(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=5, events=3)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    await execute(store, "DELETE FROM eventstore.kafka_offsets")
    worker = await project_all(kafka, store)
    assert worker.progress.events == 0
    assert await counted(store) == each(5, 3)


async def test_records_that_are_in_the_topic_twice_count_once(kafka: Kafka, store: EventStore) -> None:
    """As a publisher without transactions would leave them."""
    await fill(store, streams=5, events=3)
    await publish_all(kafka, store)
    records = await kafka.committed(kafka.orders)
    await kafka.produce(kafka.orders, *records, *records)
    await project_all(kafka, store)
    assert await counted(store) == each(5, 3)


async def test_waiting_for_what_nobody_publishes_ends_in_time_and_names_the_publisher(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    await fill(store, streams=1, events=1)
    worker = projector(kafka, store, publishers=["orders"])
    async with working(worker):
        await worker.caught_up(within=WITHIN)
        with pytest.raises(NotCaughtUpError, match="it needs the publisher 'orders'") as refused:
            await worker.progress.caught_up(store.log, within=0.5)
        assert refused.value.position == worker.progress.position > 0
    assert await counted(store) == each(1, 1)


async def test_events_that_no_handler_wants_are_passed_over(kafka: Kafka, store: EventStore) -> None:
    await store.append("order-0", [placed(), SHIPPED, SHIPPED, placed()], expected_version=ANY)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    assert await counted(store) == {"order-0": (2, 4)}


# --- several instances -----------------------------------------------------------------------------------------------


async def test_instances_share_the_partitions_and_hand_them_over(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.feeding.BATCH", 5)
    publisher = kafka.publisher(store)
    first, second = projector(kafka, store), projector(kafka, store)
    async with working(publisher):
        await publisher.progress.until(lambda: publisher.progress.state == "working")
        first_task = asyncio.create_task(first.run())
        await first.progress.until(lambda: first.progress.state == "working")
        rounds = 0
        async with working(second), asyncio.timeout(WITHIN):
            while rounds < 10 or not second.progress.events:  # the group changes hands under load
                await fill(store, streams=15, events=1)
                rounds += 1
            await publisher.progress.caught_up(store.log)
            await first.caught_up()
            await second.caught_up()
            assert first.progress.events > 0
            assert await counted(store) == each(15, rounds)
            await stop(first_task)
            await fill(store, streams=15, events=1)
            await publisher.progress.caught_up(store.log)
            await until_counted(store, each(15, rounds + 1))


async def test_a_partition_that_somebody_else_has_moved_on_is_left_to_them(kafka: Kafka, store: EventStore) -> None:
    """The offset is compared in the transaction itself, so that two who both believe it is theirs cannot both apply."""
    await fill(store, streams=3, events=1)
    await publish_all(kafka, store)
    worker = projector(kafka, store)
    async with working(worker):
        await worker.caught_up()
        await execute(store, "UPDATE eventstore.kafka_offsets SET next_offset = next_offset - 1 WHERE next_offset > 0")
        starts_over = asyncio.create_task(worker.progress.until(lambda: worker.progress.state == "waiting"))
        await fill(store, streams=3, events=1)
        await publish_all(kafka, store)
        await starts_over
        await until_counted(store, each(3, 2))


async def test_stores_that_read_the_same_topic_do_not_share_its_events(
    kafka: Kafka, store: EventStore, empty_dsn: str
) -> None:
    await fill(store, streams=10, events=1)
    await publish_all(kafka, store)
    await migrate(empty_dsn)
    async with open_store(empty_dsn, app) as other:
        workers = [projector(kafka, store), projector(kafka, other)]
        async with working(*workers):
            for worker in workers:
                await worker.caught_up()
        assert await counted(store) == await counted(other) == each(10, 1)


# --- after a fault ---------------------------------------------------------------------------------------------------


async def test_however_long_a_fault_lasts_it_is_tried_again_within_a_second(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []

    async def note_delay(backoff: Backoff) -> None:
        delays.append(backoff._next)
        backoff._next = min(backoff._next * 2, backoff._most)

    monkeypatch.setattr(Backoff, "wait", note_delay)
    worker = projector(kafka, store, topics=[f"{kafka.prefix}never-made"])
    async with working(worker):
        await worker.progress.until(lambda: len(delays) == 7, within=WITHIN)
    assert delays[-2:] == [1.0, 1.0]


async def test_the_partitions_of_a_member_that_died_wait_for_six_seconds_and_for_a_busy_one_longer(
    kafka: Kafka,
) -> None:
    async with opened_consumer(kafka.settings, f"{kafka.prefix}group", [kafka.orders], "one") as member:
        options = member._consumer
        assert options._session_timeout_ms == 6000
        assert options._rebalance_timeout_ms == 10_000
