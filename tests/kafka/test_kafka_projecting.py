"""A read model that is fed by Kafka: every event once, whatever comes twice, is missing or changes hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventstore import Application, EventStore, Projection, ProjectionContext, RecordedEvent
from eventstore.db.database import ConnectionSession
from eventstore.errors import (
    FedByKafkaError,
    LeaseLostError,
    LogMismatchError,
    NotCaughtUpError,
    ProjectionFailedError,
    StreamGapError,
    UnreadableRecordError,
)
from eventstore.kafka import KafkaProjector
from eventstore.projections import ProjectionRunner, ProjectionWorker, rebuild
from eventstore.store.log import LogRange
from eventstore.streams import ANY
from eventstore.subscriptions import Checkpoint, Checkpoints
from fixtures import shop
from fixtures.kafka_tools import WITHIN, Kafka, eventually, fill, publish_all, stop, working
from fixtures.shop import SHIPPED, OrderPlaced, placed
from fixtures.stores import open_store

sales = Projection(
    "sales", setup="CREATE TABLE sales (stream_id text PRIMARY KEY, n bigint NOT NULL, version bigint NOT NULL)"
)


@sales.on(OrderPlaced)
async def count(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
    """Count, which an event that came twice would spoil, and note the version, which another order would."""
    await ctx.connection.execute(
        "INSERT INTO sales VALUES ($1, 1, $2) "
        "ON CONFLICT (stream_id) DO UPDATE SET n = sales.n + 1, version = excluded.version",
        event.stream_id,
        event.stream_version,
    )


app = Application("shop", events=shop.events, projections=[sales])


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store of a shop with a read model."""
    async with open_store(dsn, app) as store:
        yield store


def projector(kafka: Kafka, store: EventStore, projection: Projection = sales, **changes: Any) -> KafkaProjector:
    return KafkaProjector(store, projection, kafka.settings, **{"topics": [kafka.orders], **changes})


async def project_all(kafka: Kafka, store: EventStore, **changes: Any) -> KafkaProjector:
    """Apply everything that is committed in Kafka now, and stop."""
    worker = projector(kafka, store, **changes)
    async with working(worker):
        await worker.caught_up()
    return worker


async def run_to_its_end(worker: KafkaProjector) -> None:
    """Run a projector that is expected to end by itself."""
    async with asyncio.timeout(WITHIN):
        await worker.run()


async def execute(store: EventStore, statement: str) -> None:
    async with store.transaction() as tx:
        await tx.connection.execute(statement)


async def counted(store: EventStore) -> dict[str, tuple[int, int]]:
    """Return the count and the last version of each stream in the read model."""
    async with store.database.connection() as connection:
        rows = await connection.fetch("SELECT stream_id, n, version FROM sales_v1.sales")
    return {row["stream_id"]: (row["n"], row["version"]) for row in rows}


def each(streams: int, events: int) -> dict[str, tuple[int, int]]:
    return {f"order-{number}": (events, events) for number in range(streams)}


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
    from eventstore.db.migrating import migrate  # noqa: PLC0415

    await fill(store, streams=10, events=1)
    await publish_all(kafka, store)
    await migrate(empty_dsn)
    async with open_store(empty_dsn, app) as other:
        workers = [projector(kafka, store), projector(kafka, other)]
        async with working(*workers):
            for worker in workers:
                await worker.caught_up()
        assert await counted(store) == await counted(other) == each(10, 1)


# --- what it refuses -------------------------------------------------------------------------------------------------


async def test_a_missing_event_stops_it(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=4)
    await publish_all(kafka, store)
    records = await kafka.committed(kafka.orders)
    holed = f"{kafka.prefix}holed"
    await kafka.create_topic(holed)
    await kafka.produce(holed, records[0], records[1], records[3])
    with pytest.raises(StreamGapError) as refused:
        await run_to_its_end(projector(kafka, store, topics=[holed]))
    error = refused.value
    assert (error.topic, error.stream_id, error.expected, error.found) == (holed, "order-0", 3, 4)
    assert await counted(store) == {}


async def test_a_record_that_is_no_event_stops_it_and_is_not_shown(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    (record,) = await kafka.committed(kafka.orders)
    record.headers, record.value = (), b"secret"
    await kafka.produce(kafka.orders, record)
    with pytest.raises(UnreadableRecordError, match="the header") as refused:
        await run_to_its_end(projector(kafka, store))
    assert "secret" not in str(refused.value)


async def test_a_handler_that_fails_stops_it_before_that_event(kafka: Kafka, store: EventStore) -> None:
    broken = Projection("sales", setup=sales.setup)

    @broken.on(OrderPlaced)
    async def fail(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
        if event.stream_version == 2:
            raise ZeroDivisionError
        await count(event, ctx)

    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store, projection=broken)
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    with pytest.raises(ProjectionFailedError, match="ZeroDivisionError"):
        await run_to_its_end(projector(kafka, store, broken))
    assert await counted(store) == each(1, 1)
    await project_all(kafka, store)
    assert await counted(store) == each(1, 2)


async def test_a_topic_that_was_made_anew_stops_it(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    await kafka.delete_topic(kafka.orders)
    await kafka.create_topic(kafka.orders)
    with pytest.raises(LogMismatchError, match="made anew"):
        await run_to_its_end(projector(kafka, store))


async def test_events_that_no_handler_wants_are_passed_over(kafka: Kafka, store: EventStore) -> None:
    await store.append("order-0", [placed(), SHIPPED, SHIPPED, placed()], expected_version=ANY)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    assert await counted(store) == {"order-0": (2, 4)}


# --- the same read model, fed otherwise ------------------------------------------------------------------------------


async def test_it_takes_over_a_read_model_that_the_log_has_fed(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=5, events=3)
    await ProjectionWorker(store, sales).run_until_caught_up()
    await fill(store, streams=6, events=1)
    await publish_all(kafka, store)
    worker = await project_all(kafka, store)
    assert worker.progress.events == 6
    assert await counted(store) == each(5, 4) | {"order-5": (1, 1)}


@asynccontextmanager
async def own_table(store: EventStore) -> AsyncIterator[Projection]:
    """Declare the projection again, on a table that the user's own migrations made; `counted` finds it."""
    mine = Projection("sales", tables=["sales_v1.sales"])

    @mine.on(OrderPlaced)
    async def count_there(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
        await ctx.connection.execute("SET LOCAL search_path = sales_v1")
        await count(event, ctx)

    await execute(store, f"CREATE SCHEMA sales_v1; SET LOCAL search_path = sales_v1; {sales.setup}")
    yield mine


async def test_the_log_refuses_to_go_on_with_what_kafka_has_fed(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=5, events=3)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    for _ in range(2):
        with pytest.raises(FedByKafkaError, match="eventstore rebuild sales") as refused:
            async with asyncio.timeout(WITHIN), app.workers(store, "sales") as workers:
                await workers["sales"].progress.caught_up(store.log)
        assert refused.value.projection == "sales"
    assert await counted(store) == each(5, 3)


async def test_the_log_refuses_it_also_where_it_had_fed_the_read_model_before_kafka(
    kafka: Kafka, store: EventStore
) -> None:
    """A checkpoint that is left over from then would let it apply everything since then twice."""
    await fill(store, streams=5, events=1)
    await ProjectionWorker(store, sales).run_until_caught_up()
    await fill(store, streams=5, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    with pytest.raises(FedByKafkaError):
        await ProjectionWorker(store, sales).run_until_caught_up()
    assert await counted(store) == each(5, 2)


async def test_after_a_rebuild_the_log_goes_on_with_what_kafka_has_fed_and_kafka_with_what_the_log_has(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=5, events=2)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    await fill(store, streams=5, events=1)
    await rebuild(store, sales)
    await fill(store, streams=5, events=1)
    await ProjectionWorker(store, sales).run_until_caught_up()
    assert await counted(store) == each(5, 4)
    await fill(store, streams=5, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    assert await counted(store) == each(5, 5)


async def test_kafka_waits_until_nobody_feeds_the_read_model_from_the_log_any_more(
    kafka: Kafka, store: EventStore
) -> None:
    """As when the new version of a service, which has brokers, starts beside the old one, which has not."""
    await fill(store, streams=5, events=1)
    old, new = ProjectionWorker(store, sales), projector(kafka, store)
    old_task = asyncio.create_task(old.run())
    await old.progress.caught_up(store.log)
    await publish_all(kafka, store)
    async with working(new):
        await new.progress.until(lambda: new.progress.state == "starting")
        await new.progress.until(lambda: new.progress.state == "waiting")
        await fill(store, streams=5, events=1)
        await old.progress.caught_up(store.log)
        assert new.progress.events == 0
        await stop(old_task)
        await fill(store, streams=5, events=1)
        await publish_all(kafka, store)
        await until_counted(store, each(5, 3))
    assert new.progress.events == 5


async def test_a_log_worker_that_was_away_while_kafka_took_over_does_no_harm(kafka: Kafka, store: EventStore) -> None:
    """Its lease has run out, and it believes that it holds it."""
    await fill(store, streams=5, events=1)
    await publish_all(kafka, store)
    runner = ProjectionRunner(store, sales)
    async with runner.opened():
        await project_all(kafka, store)
        page = await store.log.read_all(LogRange(), 0, await store.log.high_water(), 100)

        async def note_progress(session: ConnectionSession) -> None:
            to = Checkpoint(page.last_position or 0, page.last_event_id, epoch=1)
            await Checkpoints(session).advance(sales.consumer_name, since=Checkpoint(), to=to)

        with pytest.raises(LeaseLostError):
            await runner.apply(page.events, session_hook=note_progress)
    assert await counted(store) == each(5, 1)


async def test_a_rebuild_of_the_users_own_tables_is_gone_on_with(kafka: Kafka, store: EventStore) -> None:
    async with own_table(store) as mine:
        publisher, worker = kafka.publisher(store), projector(kafka, store, mine, publishers=["orders"])
        async with working(publisher, worker):
            await fill(store, streams=5, events=3)
            await worker.progress.caught_up(store.log)
            await execute(store, "UPDATE sales_v1.sales SET n = 0")
            await fill(store, streams=5, events=1)
            await rebuild(store, mine)
            assert await counted(store) == each(5, 4)
            await fill(store, streams=5, events=1)
            await until_counted(store, each(5, 5))


async def test_kafka_completes_a_rebuild_of_the_users_own_tables_that_was_cut_off(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each batch in turn: what was filled by then is not taken in again, and the rest is."""
    monkeypatch.setattr("eventstore.projections.rebuilding._BATCH", 4)
    async with own_table(store) as mine:
        await fill(store, streams=5, events=3)
        await publish_all(kafka, store)
        for batches in range(4):
            await project_all(kafka, store, projection=mine)
            told: list[int] = []

            def report(applied: int, _left: int) -> None:
                told.append(applied)  # noqa: B023 - called in this turn
                if len(told) > batches:  # noqa: B023 - the same
                    raise ZeroDivisionError

            with pytest.raises(ZeroDivisionError):
                await rebuild(store, mine, report=report)
            await project_all(kafka, store, projection=mine)
            assert await counted(store) == each(5, 3)


async def test_a_rebuild_from_the_log_is_gone_on_with(kafka: Kafka, store: EventStore) -> None:
    publisher, worker = kafka.publisher(store), projector(kafka, store, publishers=["orders"])
    async with working(publisher, worker):
        await fill(store, streams=5, events=3)
        await worker.progress.caught_up(store.log)
        await execute(store, "UPDATE sales_v1.sales SET n = 0")
        await fill(store, streams=5, events=1)
        await rebuild(store, sales)
        await fill(store, streams=5, events=1)
        await worker.progress.caught_up(store.log)
        assert await counted(store) == each(5, 5)


async def until_counted(store: EventStore, expected: dict[str, tuple[int, int]]) -> None:
    """Wait for what several instances do together, none of which can tell by itself."""

    async def is_so() -> bool:
        return await counted(store) == expected

    await eventually(is_so)
