"""A service reads its own writes from a read model that Kafka feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, EventStore, Park, ProjectionContext, RecordedEvent
from eventstore.errors import ParkedStreamError
from eventstore.kafka import KafkaProjector
from fixtures.kafka_tools import WITHIN, Kafka, working
from fixtures.projecting import app_of, fill, rows, sales
from fixtures.shop import placed
from fixtures.stores import open_store


async def fail_on_seven(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == 7:
        raise ZeroDivisionError


projection = sales(after=fail_on_seven, on_failure=Park(attempts=1))
app = app_of(projection)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """A service's store: no worker runs in it."""
    async with open_store(dsn, app) as store:
        yield store


async def test_behind_kafka_it_is_known_of_the_event_itself(
    kafka: Kafka, dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 2)
    async with open_store(dsn, app) as other:
        publisher = kafka.publisher(other)
        worker = KafkaProjector(other, projection, kafka.settings, topics=[kafka.orders])
        async with working(publisher, worker):
            for number in range(3):
                result = await store.append(f"order-{number}", [placed(sku="cup")], expected_version=ANY)
                await store.wait_for("sales", result.position, within=WITHIN)
                assert (await rows(connection))["cup"] == number + 1
            poison = await store.append("order-1", [placed(7)], expected_version=ANY)
            with pytest.raises(ParkedStreamError):
                await store.wait_for("sales", poison.position, within=WITHIN)
