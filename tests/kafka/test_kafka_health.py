"""Health tells of those whom Kafka feeds, and of each of a publisher's groups: also why they have failed."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import Application, EventStore, Projection, ProjectionContext, RecordedEvent, Stop, check_health
from eventstore.errors import ProjectionFailedError, WrongGroupsError
from fixtures import shop
from fixtures.kafka_sales import sales
from fixtures.kafka_tools import WITHIN, Kafka, fill, publish_all
from fixtures.shop import OrderPlaced
from fixtures.stores import open_store


async def run_to_its_end(store: EventStore, app: Application, kafka: Kafka) -> None:
    async with asyncio.timeout(WITHIN), app.workers(store, kafka=kafka.settings):
        await asyncio.Event().wait()


async def test_a_projection_that_kafka_feeds_says_why_it_has_failed(kafka: Kafka, dsn: str, store: EventStore) -> None:
    broken = Projection("sales", setup=sales.setup, categories=["order"], on_failure=Stop(attempts=1))

    @broken.on(OrderPlaced)
    async def fail(event: RecordedEvent[Any], _: ProjectionContext) -> None:
        if event.stream_version == 2:
            raise ZeroDivisionError

    app = Application("shop", events=shop.events, projections=[broken], publishers=[kafka.declaration()])
    async with open_store(dsn, app) as running:
        await fill(store, streams=1, events=2)
        with pytest.raises(ProjectionFailedError):
            await run_to_its_end(running, app, kafka)
        for declared in (app, None):
            (failed,) = (await check_health(store, declared)).late(3600)
            assert (failed.name, failed.state) == ("sales@1", "failed")
            assert "ZeroDivisionError" in f"{failed.reason}"
            assert (failed.position, failed.lag, failed.events_behind, failed.seconds_behind) == (0, 0, 0, None)


async def test_a_group_of_a_publisher_says_why_it_has_failed(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=1)
    await publish_all(kafka, store)
    app = Application("shop", events=shop.events, publishers=[kafka.declaration(groups=2)])
    with pytest.raises(WrongGroupsError):
        await run_to_its_end(store, app, kafka)

    followers = {one.name: one for one in (await check_health(store, app)).followers}
    failed = [one for one in followers.values() if one.state == "failed"]
    assert failed
    assert all("group" in f"{one.reason}" for one in failed)
    assert {one.name for one in failed} <= set(app.followers().values())
