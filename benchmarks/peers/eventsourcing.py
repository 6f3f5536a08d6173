"""eventsourcing: an `Application` with its PostgreSQL recorder on psycopg, called from threads.

Appends keep the aggregate in memory between saves, and contended ones use its aggregate cache, which is quicker than
loading each time. Loads use neither.
"""

# ruff: noqa: ARG002 - the library records what an event's method takes, used or not; `version` is the interface's

from __future__ import annotations

from urllib.parse import urlsplit
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import IntegrityError

from benchmarks.payload import EVENTS_PER_STREAM, fields
from benchmarks.peers.serving import BlockingPeer

PAGE = 1_000


class Account(Aggregate):
    """An account, opened with its first deposit."""

    @event("Opened")
    def __init__(
        self,
        *,
        key: UUID,
        amount: int,
        currency: str,
        reference: str,
        counterparty: str,
        memo: str,
        channel: str,
        labels: list[str],
    ) -> None:
        self.key = key
        self._count(amount)

    @staticmethod
    def create_id(key: UUID) -> UUID:
        """Return the id that was asked for."""
        return key

    @event("Deposited")
    def deposit(
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
        """Take in a deposit."""
        self._count(amount)

    def _count(self, amount: int) -> None:
        self.amount = getattr(self, "amount", 0) + amount


class Bank(Application):
    """The application; a page of its log may be as long as ours."""

    log_section_size = PAGE


class Peer(BlockingPeer):
    """Saves aggregates, gets them, selects notifications."""

    copying = """
        INSERT INTO bank_events (originator_id, originator_version, topic, state)
        SELECT md5(originator_id::text || copy)::uuid, originator_version, topic, state
          FROM bank_events, generate_series(1, {copies}) AS copy
         ORDER BY copy, notification_id
    """

    async def open(self) -> None:
        """Connect; the application makes its tables."""
        url = urlsplit(self.dsn)
        environment = {
            "PERSISTENCE_MODULE": "eventsourcing.postgres",
            "POSTGRES_DBNAME": url.path[1:],
            "POSTGRES_HOST": url.hostname,
            "POSTGRES_PORT": str(url.port),
            "POSTGRES_USER": url.username,
            "POSTGRES_PASSWORD": url.password or "none",
            "POSTGRES_POOL_SIZE": str(self.connections),
            "POSTGRES_MAX_OVERFLOW": "0",
            "POSTGRES_MAX_WAITING": "1000",
        }
        self.bank = Bank(env=environment)
        self._caching = Bank(env=environment | {"AGGREGATE_CACHE_MAXSIZE": "100"})
        self._held: dict[UUID, Account] = {}

    async def close(self) -> None:
        """Disconnect."""
        self.bank.close()
        self._caching.close()

    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Trigger one event of an aggregate that is at this version, and save it."""
        if version == 0:
            account = self._held[stream] = Account(key=stream, **fields(number))
        else:
            account = self._held[stream]
            account.deposit(**fields(number))
        self.bank.save(account)
        if version + 1 == EVENTS_PER_STREAM:
            del self._held[stream]

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Get the aggregate, trigger an event, save it; all again after a conflict."""
        while True:
            account = self._caching.repository.get(stream)
            account.deposit(**fields(number))
            try:
                self._caching.save(account)
            except IntegrityError:
                continue
            return account.version

    async def fill(self, stream: UUID, numbers: range) -> None:
        """Save an aggregate with all its events at once."""
        account = Account(key=stream, **fields(numbers[0]))
        for number in numbers[1:]:
            account.deposit(**fields(number))
        self.bank.save(account)

    async def load(self, stream: UUID) -> int:
        """Get an aggregate from its events."""
        return self.bank.repository.get(stream).version

    async def read_all(self, limit: int) -> int:
        """Select notifications page by page, and map each to its event."""
        seen, start = 0, None
        while seen < limit:
            page = self.bank.notification_log.select(start, PAGE, inclusive_of_start=False)
            if not page:
                break
            for notification in page:
                self.bank.mapper.to_domain_event(notification)
            seen += len(page)
            start = page[-1].id
        return seen
