"""logicblocks.event.store: streams on psycopg, serialised by the whole log, which is its default.

Its payloads are untyped: reading makes a slotted dataclass of each, the least that "typed" can mean. It logs each
publication and each conflict; that is turned down to errors, as a busy service would.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import structlog
from logicblocks.event.projection import Projector
from logicblocks.event.store import EventStore, PostgresEventStorageAdapter, UnmetWriteConditionError, conditions
from logicblocks.event.types import NewEvent
from psycopg_pool import AsyncConnectionPool

from benchmarks.payload import fields
from benchmarks.peers.serving import AsyncPeer

CATEGORY = "account"
TABLE = """
    CREATE TABLE IF NOT EXISTS events (
        id text PRIMARY KEY,
        name text NOT NULL,
        stream text NOT NULL,
        category text NOT NULL,
        position int NOT NULL,
        payload jsonb NOT NULL,
        sequence_number bigserial NOT NULL,
        observed_at timestamptz NOT NULL,
        occurred_at timestamptz NOT NULL
    );
    CREATE INDEX IF NOT EXISTS events_by_number ON events (sequence_number);
    CREATE INDEX IF NOT EXISTS events_by_position ON events (category, stream, position);
    CREATE INDEX IF NOT EXISTS events_by_category ON events (category, sequence_number);
    CREATE INDEX IF NOT EXISTS events_by_stream ON events (category, stream, sequence_number DESC);
"""
"""What its repository's SQL files make, for this version's columns."""


@dataclass(slots=True)
class Deposited:
    """Money came in."""

    amount: int
    currency: str
    reference: str
    counterparty: str
    memo: str
    channel: str
    labels: list[str]


class Balance(Projector):
    """Folds an account."""

    def initial_state_factory(self) -> dict[str, int]:
        """Return the state before the first event."""
        return {"amount": 0, "deposits": 0}

    def initial_metadata_factory(self) -> dict[str, int]:
        """Return no metadata."""
        return {}

    def id_factory(self, state: dict[str, int], source: Any) -> str:  # noqa: ARG002 - the interface's
        """Return the account's id."""
        return source.stream

    def deposited(self, state: dict[str, int], event: Any) -> dict[str, int]:
        """Return the state after a deposit."""
        state["amount"] += event.payload["amount"]
        state["deposits"] += 1
        return state


class Peer(AsyncPeer):
    """Publishes to streams, projects them, iterates over the log."""

    copying = """
        INSERT INTO events (id, name, stream, category, position, payload, observed_at, occurred_at)
        SELECT md5(id || copy), name, md5(stream || copy)::uuid, category, position, payload, observed_at, occurred_at
          FROM events, generate_series(1, {copies}) AS copy
         ORDER BY copy, sequence_number
    """

    async def open(self) -> None:
        """Connect and make the table."""
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        self._pool = AsyncConnectionPool(
            self.dsn, min_size=self.connections, max_size=self.connections, open=False, timeout=120
        )
        await self._pool.open(wait=True)
        async with self._pool.connection() as connection:
            await connection.execute(TABLE)
        self.store = EventStore(PostgresEventStorageAdapter(connection_source=self._pool))

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Publish one event to a stream that is at this version."""
        await self._stream(stream).publish(events=[_event(number)], condition=_at(version))

    async def append_any(self, stream: UUID, number: int) -> None:
        """Publish without a condition."""
        await self._stream(stream).publish(events=[_event(number)])

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Publish; after a conflict look at the last event."""
        while True:
            try:
                await self._stream(stream).publish(events=[_event(number)], condition=_at(version))
            except UnmetWriteConditionError:
                latest = await self._stream(stream).latest()
                version = latest.position + 1
            else:
                return version + 1

    async def fill(self, stream: UUID, numbers: range) -> None:
        """Publish a thousand at a time."""
        for start in range(0, len(numbers), 1000):
            await self._stream(stream).publish(events=[_event(number) for number in numbers[start : start + 1000]])

    async def load(self, stream: UUID) -> int:
        """Project a stream."""
        projection = await Balance().project(source=self._stream(stream))
        return projection.state["deposits"]

    async def read_all(self, limit: int) -> int:
        """Iterate over the log."""
        seen = 0
        async for event in self.store.log().iterate():
            Deposited(**event.payload)
            seen += 1
            if seen == limit:
                break
        return seen

    def _stream(self, stream: UUID) -> Any:
        return self.store.stream(category=CATEGORY, stream=str(stream))


def _at(version: int) -> Any:
    return conditions.position_is(version - 1) if version else conditions.stream_is_empty()


def _event(number: int) -> NewEvent:
    return NewEvent(name="deposited", payload=fields(number))
