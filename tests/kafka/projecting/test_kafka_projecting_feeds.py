"""A read model that is fed by the log, by Kafka, or by a rebuild, in turn: nothing is applied twice or left out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from eventstore import EventStore, Projection, ProjectionContext, RecordedEvent
from eventstore.db.database import ConnectionSession
from eventstore.errors import FedByKafkaError, LeaseLostError
from eventstore.projections import ProjectionRunner, ProjectionWorker, rebuild
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoint, Checkpoints
from fixtures.kafka_sales import app, count, counted, each, execute, project_all, projector, sales, until_counted
from fixtures.kafka_tools import WITHIN, Kafka, fill, publish_all, stop, working
from fixtures.shop import OrderPlaced


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
