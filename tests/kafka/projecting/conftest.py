"""A store whose read model Kafka feeds."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from eventstore import EventStore
from fixtures.kafka_sales import app
from fixtures.stores import open_store


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """An empty store of a shop with a read model."""
    async with open_store(dsn, app) as store:
        yield store
