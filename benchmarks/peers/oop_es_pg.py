"""oop-es-pg: `PostgresEventStore` on asyncpg, with the table of its integration tests, as its README advises."""

from __future__ import annotations

from uuid import UUID

import asyncpg
from oop_es import AggregateRoot, Event
from oop_es.event import Message
from oop_es.repository import SimpleAggregateRepository
from oop_es.serializer import EventSerializer
from oop_es.store.exception import WrongEventVersionException
from oop_es_pg import PostgresEventStore
from oop_es_pg.asyncpg.asyncpg_connector import AsyncpgConnector

from benchmarks.payload import fields
from benchmarks.peers.serving import AsyncPeer

TABLE = """
    CREATE TABLE IF NOT EXISTS events (
        aggregate_id uuid NOT NULL,
        version integer NOT NULL,
        event_data jsonb NOT NULL,
        meta jsonb NOT NULL DEFAULT '{}',
        emitted_at timestamp NOT NULL DEFAULT now(),
        PRIMARY KEY (aggregate_id, version)
    );
    CREATE INDEX IF NOT EXISTS events_by_time ON events (emitted_at);
"""


class Deposited(Event):
    """Money came in."""

    def __init__(
        self,
        *,
        amount: int,
        currency: str,
        reference: str,
        counterparty: str,
        memo: str,
        channel: str,
        labels: list[str],
    ) -> None:
        self.amount = amount
        self.currency = currency
        self.reference = reference
        self.counterparty = counterparty
        self.memo = memo
        self.channel = channel
        self.labels = labels


class Account(AggregateRoot):
    """An account."""

    def __init__(self, uuid: UUID | None = None) -> None:
        super().__init__(uuid)
        self.amount = 0
        self.deposits = 0

    def apply__deposited(self, event: Deposited) -> None:
        """Take in a deposit; the doubled underscore is what the library makes of the class's name."""
        self.amount += event.amount
        self.deposits += 1

    apply_deposited = apply__deposited


class Peer(AsyncPeer):
    """Adds messages, loads aggregates. Its versions count from 0."""

    async def open(self) -> None:
        """Connect and make the table."""
        self._pool = await asyncpg.create_pool(self.dsn, min_size=self.connections, max_size=self.connections)
        await self._pool.execute(TABLE)
        self.store = PostgresEventStore(AsyncpgConnector(self._pool), EventSerializer())
        self._accounts = SimpleAggregateRepository(self.store, [], Account)

    async def close(self) -> None:
        """Disconnect."""
        await self._pool.close()

    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Add one event to a stream that is at this version."""
        await self.store.add([_message(stream, version, number)])

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Add; after a conflict load what has come since."""
        while True:
            try:
                await self.store.add([_message(stream, version, number)])
            except WrongEventVersionException:
                later = await self.store.load_events_from(stream, version)
                version = max(later) + 1 if later else version
            else:
                return version + 1

    async def fill(self, stream: UUID, numbers: range) -> None:
        """Add all in one transaction."""
        await self.store.add([_message(stream, number, number) for number in numbers])

    async def load(self, stream: UUID) -> int:
        """Load an aggregate."""
        account = await self._accounts.load(stream)
        return account.deposits


def _message(stream: UUID, version: int, number: int) -> Message:
    return Message(stream, Deposited(**fields(number)), version)
