"""What the cases marked "(PostgreSQL)" run on: each kind of store that has SQL, and a connection of one's own to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import asyncpg
import pytest

from eventstore import EventStore
from eventstore.testing import FakeClock
from fixtures.stores import KINDS, connected, open_store


class Place(NamedTuple):
    """Where a store on PostgreSQL is, and whether PgBouncer is on the way."""

    dsn: str
    pgbouncer: bool


@pytest.fixture(params=["postgres", "postgres15", "pgbouncer"])
def place(request: pytest.FixtureRequest) -> Place:
    """A fresh, migrated database, one of each kind in turn."""
    return Place(request.getfixturevalue(str(KINDS[request.param])), request.param == "pgbouncer")


@pytest.fixture
async def any_postgres(place: Place, clock: FakeClock) -> AsyncIterator[EventStore]:
    """An empty store of the shop there."""
    async with open_store(place.dsn, clock=clock, pgbouncer=place.pgbouncer) as store:
        yield store


@pytest.fixture
async def own_connection(place: Place) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the caller's own, which goes the same way: what belongs together has to be in a transaction."""
    async with connected(place.dsn, statement_cache_size=0) as connection:
        yield connection
