"""What feeding a read model from Kafka refuses to go on with: it ends with an error, and skips nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from eventstore import EventStore, Projection, ProjectionContext, RecordedEvent
from eventstore.errors import ConfigurationError, ProjectionFailedError, StreamGapError, UnreadableRecordError
from fixtures.kafka_sales import count, counted, each, project_all, projector, run_to_its_end, sales
from fixtures.kafka_tools import Kafka, fill, publish_all
from fixtures.shop import OrderPlaced


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


async def test_a_session_shorter_than_the_broker_allows_stops_it(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    moment = replace(kafka, settings=replace(kafka.settings, session_timeout=0.2))
    with pytest.raises(ConfigurationError, match="session_timeout must be between"):
        await run_to_its_end(projector(moment, store))


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
