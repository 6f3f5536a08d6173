"""What a read model that is fed by Kafka does with events that it cannot apply, and with records that are none."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, Park, Projection, ProjectionContext, RecordedEvent, Stop, rebuild
from eventstore.errors import ProjectionFailedError, TooManyParkedStreamsError
from eventstore.kafka import KafkaProjector
from eventstore.projections import (
    ParkedStreams,
    ProjectionWorker,
    discard_parked,
    replay_all_parked,
    replay_parked,
)
from eventstore.streams import ANY
from fixtures.deadly import DIED, run_deadly
from fixtures.kafka_tools import WITHIN, Kafka, fill, publish_all, working
from fixtures.projecting import Before, app_of, clean_fold, rows, sales
from fixtures.shop import OrderPlaced, placed
from fixtures.stores import open_store

PARK = Park(attempts=2, first=0.001, longest=0.002)


class PoisonError(Exception):
    """What a handler fails with."""


async def fail_on_seven(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == 7:
        raise PoisonError


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store."""
    async with open_store(dsn, app_of(sales())) as store:
        yield store


def projector(kafka: Kafka, store: EventStore, projection: Projection) -> KafkaProjector:
    return KafkaProjector(store, projection, kafka.settings, topics=[kafka.orders], publishers=["orders"])


async def project_all(kafka: Kafka, store: EventStore, projection: Projection) -> None:
    """Publish and apply everything that is in the log now, and stop."""
    await publish_all(kafka, store)
    worker = projector(kafka, store, projection)
    async with working(worker):
        await worker.caught_up(within=WITHIN)


async def parked(store: EventStore) -> list[tuple[str, int]]:
    held = await ParkedStreams(store.database, "sales@1").held()
    return [(one.stream_id, one.from_version) for one in held]


async def without(store: EventStore, stream_id: str, from_version: int) -> dict[str, int]:
    """Return a clean fold of everything but a stream's rest."""
    counted: Counter[str] = Counter()
    async for event in store.read_all(of=OrderPlaced):
        if event.stream_id != stream_id or event.stream_version < from_version:
            counted[event.data.sku] += event.data.quantity
    return dict(counted)


async def poisoned(store: EventStore) -> None:
    """Append to ten streams; order-3 has a 7 as its second event."""
    await fill(store, streams=10, events=1)
    await store.append("order-3", [placed(7)], expected_version=ANY)
    await fill(store, streams=10, events=3)


def failing(before: Before = fail_on_seven, **declared: Any) -> Projection:
    return sales(before=before, **{"on_failure": PARK, **declared})


async def test_a_poisoned_event_holds_its_own_stream_back_and_no_other(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await poisoned(store)

    for _ in range(2):
        await project_all(kafka, store, failing())
        assert await parked(store) == [("order-3", 2)]
        assert await rows(connection) == await without(store, "order-3", 2)
        await fill(store, streams=10, events=1)


async def test_what_is_held_back_is_replayed_from_the_log_up_to_where_kafka_has_come(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await poisoned(store)
    await project_all(kafka, store, failing())
    await fill(store, streams=10, events=2)  # these have not come yet, and are not the replay's

    done = await replay_parked(store, sales(), "order-3")

    assert (done.events, done.parked) == (4, None)
    await project_all(kafka, store, failing())
    assert await parked(store) == []
    assert await rows(connection) == await clean_fold(store)


async def test_replays_beside_a_busy_projector_neither_lose_nor_double(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    publisher, worker = kafka.publisher(store), projector(kafka, store, failing(on_failure=Park(attempts=1)))
    async with working(publisher, worker):
        for _ in range(5):
            await poisoned(store)
            async for _ in replay_all_parked(store, sales()):
                pass
        await worker.progress.caught_up(store.log, within=WITHIN)
    async for _ in replay_all_parked(store, sales()):
        pass

    assert await rows(connection) == await clean_fold(store)


async def test_discarding_goes_on_without_the_event(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await poisoned(store)
    await project_all(kafka, store, failing())

    await discard_parked(store, failing(), "order-3", by="alice", reason="a test order")

    assert await rows(connection) == {"tea": (await clean_fold(store))["tea"] - 7}


async def test_what_the_log_has_parked_kafka_holds_back_too(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await poisoned(store)
    await ProjectionWorker(store, failing()).run_until_caught_up()
    await fill(store, streams=10, events=1)

    await project_all(kafka, store, failing())
    assert await rows(connection) == await without(store, "order-3", 2)

    await replay_parked(store, sales(), "order-3")
    assert await rows(connection) == await clean_fold(store)


async def test_what_a_rebuild_has_parked_kafka_holds_back_and_what_it_has_not_it_goes_on_with(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await poisoned(store)
    await project_all(kafka, store, failing())

    await rebuild(store, failing())
    await fill(store, streams=10, events=1)
    await project_all(kafka, store, failing())
    assert await parked(store) == [("order-3", 2)]
    assert await rows(connection) == await without(store, "order-3", 2)

    await rebuild(store, sales())
    await fill(store, streams=10, events=1)
    await project_all(kafka, store, failing())
    assert await parked(store) == []
    assert await rows(connection) == await clean_fold(store)


async def test_above_the_limit_it_stops(kafka: Kafka, store: EventStore) -> None:
    for number in range(4):
        await store.append(f"order-{number}", [placed(7)], expected_version=ANY)
    await publish_all(kafka, store)

    with pytest.raises(TooManyParkedStreamsError):
        await projector(kafka, store, failing(on_failure=Park(attempts=1, limit=3))).run()

    assert len(await parked(store)) == 3


async def test_to_stop_is_to_stop_right_before_the_event(
    kafka: Kafka, store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed(1), placed(1), placed(7), placed(1)], expected_version=ANY)
    await publish_all(kafka, store)

    for _ in range(2):
        with pytest.raises(ProjectionFailedError, match="version 3 of 'order-1'"):
            await projector(kafka, store, failing(on_failure=Stop(attempts=2, first=0.001))).run()
        assert await rows(connection) == {"tea": 2}


# --- handlers that take the process down -----------------------------------------------------------------------------


async def test_a_deadly_event_is_parked_after_its_attempts_and_all_others_are_applied(
    kafka: Kafka, dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    """Whoever is given its partition next knows that the one before has died there."""
    await poisoned(store)
    await publish_all(kafka, store)
    arguments = (dsn, "park", "1", kafka.settings.bootstrap, kafka.orders)

    codes = [(await asyncio.to_thread(run_deadly, *arguments))[0] for _ in range(3)]

    assert codes == [DIED, DIED, 0]
    assert await parked(store) == [("order-3", 2)]
    assert await rows(connection) == await without(store, "order-3", 2)
    assert await connection.fetchval("SELECT count(*) FROM eventstore.projection_runs") == 0
