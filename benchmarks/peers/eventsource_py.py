"""eventsource-py: `PostgreSQLEventStore` on SQLAlchemy and asyncpg, its tables as it makes them itself."""

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID

from eventsource import (
    AggregateRepository,
    DeciderAggregate,
    DomainEvent,
    ExpectedVersion,
    FeedReadOptions,
    OptimisticLockError,
    PostgreSQLEventStore,
    StreamId,
    create_async_engine,
    register_event,
)
from pydantic import BaseModel

from benchmarks.payload import fields
from benchmarks.peers.serving import AsyncPeer

CATEGORY = "Account"
PAGE = 5_000


@register_event
class Deposited(DomainEvent):
    """Money came in."""

    aggregate_type: str = CATEGORY
    amount: int
    currency: str
    reference: str
    counterparty: str
    memo: str
    channel: str
    labels: list[str]


class Balance(BaseModel):
    """An account's state."""

    amount: int = 0
    deposits: int = 0


class Account(DeciderAggregate[Balance]):
    """An account."""

    aggregate_type = CATEGORY

    @staticmethod
    def initial_state() -> Balance:
        """Return the state before the first event."""
        return Balance()

    @staticmethod
    def decide(command: object, state: Balance) -> list[DomainEvent]:  # noqa: ARG004 - only loaded here
        """Decide nothing."""
        return []

    @staticmethod
    def evolve(state: Balance, event: DomainEvent) -> Balance:
        """Return the state after an event."""
        return Balance.model_construct(amount=state.amount + event.amount, deposits=state.deposits + 1)


class Peer(AsyncPeer):
    """Appends through the store, loads through the repository, reads the feed page by page."""

    copying = """
        INSERT INTO events (event_id, aggregate_id, aggregate_type, event_type, tenant_id, actor_id, version,
                            timestamp, payload, created_at)
        SELECT new.event_id, new.aggregate_id, aggregate_type, event_type, tenant_id, actor_id, version,
               timestamp, payload || to_jsonb(new), created_at
          FROM events old, generate_series(1, {copies}) AS copy,
               LATERAL (SELECT md5(old.event_id::text || copy)::uuid AS event_id,
                               md5(old.aggregate_id::text || copy)::uuid AS aggregate_id) AS new
         ORDER BY copy, global_position
    """

    async def open(self) -> None:
        """Connect; the store makes its table with the first call."""
        url = urlsplit(self.dsn)._replace(scheme="postgresql+asyncpg").geturl()
        self._engine = create_async_engine(url, pool_size=self.connections, max_overflow=0)
        self.store = PostgreSQLEventStore(self._engine, create_schema=True)
        self._accounts = AggregateRepository(self.store, Account, enable_tracing=False)
        await self.store.get_stream_version(_stream(UUID(int=0)))

    async def close(self) -> None:
        """Disconnect."""
        await self._engine.dispose()

    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Append one event to a stream that is at this version."""
        await self.store.append(_stream(stream), [_event(stream, number)], ExpectedVersion.exact(version))

    async def append_any(self, stream: UUID, number: int) -> None:
        """Append at any version; concurrent ones still conflict, and are repeated."""
        event = _event(stream, number)
        while True:
            try:
                await self.store.append(_stream(stream), [event], ExpectedVersion.any_())
            except OptimisticLockError:
                continue
            return

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Append; the error tells the actual version."""
        event = _event(stream, number)
        while True:
            try:
                done = await self.store.append(_stream(stream), [event], ExpectedVersion.exact(version))
            except OptimisticLockError as conflict:
                version = conflict.actual_version
            else:
                return done.new_version

    async def fill(self, stream: UUID, numbers: range) -> None:
        """Append a thousand at a time."""
        for start in range(0, len(numbers), 1000):
            chunk = [_event(stream, number) for number in numbers[start : start + 1000]]
            await self.store.append(_stream(stream), chunk, ExpectedVersion.exact(start))

    async def load(self, stream: UUID) -> int:
        """Fold a stream."""
        account = await self._accounts.load(stream)
        return account.state.deposits

    async def read_all(self, limit: int) -> int:
        """Read the feed, which has no pages of its own, in pages."""
        seen, position = 0, None
        while seen < limit:
            page = 0
            async for envelope in self.store.read_all(position, FeedReadOptions(limit=PAGE)):
                position = envelope.position
                page += 1
            if page == 0:
                break
            seen += page
        return seen


def _stream(stream: UUID) -> StreamId:
    return StreamId(aggregate_id=stream, category=CATEGORY)


def _event(stream: UUID, number: int) -> Deposited:
    return Deposited(aggregate_id=stream, **fields(number))
