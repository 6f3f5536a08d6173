"""Holds Python peers to the history checker: many writers, one follower of the whole log, each as its peer documents.

    python -m benchmarks.peers.order              all peers, on PostgreSQL as `eventstore dev` starts it
    python -m benchmarks.peers.order logicblocks  one of them

Each peer gets an environment of its own below .eventstore/peers, with the versions named here. PEERS_PYTHON names a
Python 3.13, which two of them need; MESSAGE_DB_SQL the folder `database` of the npm package @eventide/message-db 1.3.1.
What is counted is in docs/history.md. oop-es-pg has no log over all streams, so there is nothing of this kind to check.

This file runs twice: as the judge, in the project's environment, and (`--play`) inside the peer's, where it imports
nothing but the peer.
"""
# ruff: noqa: D102 - `Peer` says what its methods do
# ruff: noqa: T201 - it talks to a terminal, and to its other half by a pipe
# ruff: noqa: PLC0415 - each half imports what only its own environment has

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid4

ROOT: Final = Path(__file__).parent.parent.parent
WRITERS: Final = 16
APPENDS: Final = 100
LARGEST: Final = 30
"""Events of the largest append: a transaction that takes longer than others is what followers stumble over."""
QUIET: Final = 2.0
"""Seconds without anything new after which a follower has read all that it will ever read."""
PAGE: Final = 500

PEERS: Final = {
    "eventsourcing": ["eventsourcing[postgres]==9.5.6"],
    "eventsource_py": ["eventsource-py[postgresql]==0.15.1"],
    "logicblocks": ["logicblocks.event.store==0.1.11"],
    "message_db_category": ["message-db-py==0.3.5", "psycopg2-binary==2.9.13"],
    "message_db_all": ["message-db-py==0.3.5", "psycopg2-binary==2.9.13"],
}

Shown = tuple[int, str, int, str]
"""Position, stream, version from 1, token."""


class Peer(ABC):
    """A peer, as its users run it."""

    @abstractmethod
    async def open(self, dsn: str) -> None:
        """Connect, and make what tables it makes."""

    @abstractmethod
    async def append(self, stream: UUID, version: int, tokens: list[str]) -> None:
        """Append to a stream that is at a version."""

    @abstractmethod
    async def after(self, last: Any) -> tuple[list[Shown], Any]:
        """Return a page of the log behind a place, and the place to go on from."""


# --- inside the peer's environment -----------------------------------------------------------------------------------


class Eventsourcing(Peer):
    """`Application.notification_log.select`, as its processing applications do."""

    async def open(self, dsn: str) -> None:
        from eventsourcing.application import Application
        from eventsourcing.domain import Aggregate, event

        class Account(Aggregate):
            @event("Opened")
            def __init__(self, *, key: UUID, token: str) -> None:
                self.key, self.token = key, token

            @staticmethod
            def create_id(key: UUID) -> UUID:
                return key

            @event("Deposited")
            def deposit(self, *, token: str) -> None:
                self.token = token

        class Bank(Application):
            log_section_size = PAGE

        url = urlsplit(dsn)
        self._bank = Bank(
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": url.path[1:],
                "POSTGRES_HOST": url.hostname or "",
                "POSTGRES_PORT": str(url.port),
                "POSTGRES_USER": url.username or "",
                "POSTGRES_PASSWORD": url.password or "none",
                "POSTGRES_POOL_SIZE": str(WRITERS + 2),
            }
        )
        self._account = Account
        self._held: dict[UUID, Any] = {}

    async def append(self, stream: UUID, version: int, tokens: list[str]) -> None:
        def save() -> None:
            rest = tokens
            if version == 0:
                self._held[stream] = self._account(key=stream, token=tokens[0])
                rest = tokens[1:]
            for token in rest:
                self._held[stream].deposit(token=token)
            self._bank.save(self._held[stream])

        await asyncio.to_thread(save)

    async def after(self, last: Any) -> tuple[list[Shown], Any]:
        def select() -> list[Shown]:
            page = self._bank.notification_log.select(last, PAGE, inclusive_of_start=False)
            events = [(one.id, self._bank.mapper.to_domain_event(one)) for one in page]
            return [(number, str(one.originator_id), one.originator_version, one.token) for number, one in events]

        shown = await asyncio.to_thread(select)
        return shown, shown[-1][0] if shown else last


class EventsourcePy(Peer):
    """`PostgreSQLEventStore.read_all` from the last position."""

    async def open(self, dsn: str) -> None:
        import eventsource

        @eventsource.register_event
        class Deposited(eventsource.DomainEvent):
            aggregate_type: str = "Account"
            token: str

        self._eventsource, self._deposited = eventsource, Deposited
        url = urlsplit(dsn)._replace(scheme="postgresql+asyncpg").geturl()
        engine = eventsource.create_async_engine(url, pool_size=WRITERS + 2, max_overflow=0)
        self._store = eventsource.PostgreSQLEventStore(engine, create_schema=True)
        await self._store.get_stream_version(self._stream(uuid4()))

    def _stream(self, stream: UUID) -> Any:
        return self._eventsource.StreamId(aggregate_id=stream, category="Account")

    async def append(self, stream: UUID, version: int, tokens: list[str]) -> None:
        events = [self._deposited(aggregate_id=stream, token=token) for token in tokens]
        exact = self._eventsource.ExpectedVersion.exact(version)
        await self._store.append(self._stream(stream), events, exact)

    async def after(self, last: Any) -> tuple[list[Shown], Any]:
        shown = []
        async for one in self._store.read_all(last, self._eventsource.FeedReadOptions(limit=PAGE)):
            last = one.position
            shown.append((last.key[0], str(one.stream_id.aggregate_id), one.stream_version, one.event.token))
        return shown, last


class Logicblocks(Peer):
    """`EventStore.log().iterate` behind the last sequence number, as its subscription consumers do."""

    async def open(self, dsn: str) -> None:
        import logging

        import structlog
        from logicblocks.event.sources import constraints
        from logicblocks.event.store import EventStore, PostgresEventStorageAdapter, conditions
        from logicblocks.event.types import NewEvent
        from psycopg_pool import AsyncConnectionPool

        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
        self._constraints, self._conditions, self._new = constraints, conditions, NewEvent
        pool = AsyncConnectionPool(dsn, min_size=WRITERS + 2, max_size=WRITERS + 2, open=False, timeout=120)
        await pool.open(wait=True)
        async with pool.connection() as connection:
            await connection.execute(LOGICBLOCKS_TABLE)
        self._store = EventStore(PostgresEventStorageAdapter(connection_source=pool))

    async def append(self, stream: UUID, version: int, tokens: list[str]) -> None:
        at = self._conditions.position_is(version - 1) if version else self._conditions.stream_is_empty()
        events = [self._new(name="deposited", payload={"token": token}) for token in tokens]
        await self._store.stream(category="account", stream=str(stream)).publish(events=events, condition=at)

    async def after(self, last: Any) -> tuple[list[Shown], Any]:
        behind = frozenset() if last is None else frozenset({self._constraints.sequence_number_after(last)})
        shown = [
            (one.sequence_number, one.stream, one.position + 1, one.payload["token"])
            async for one in self._store.log().iterate(constraints=behind)
        ]
        return shown, shown[-1][0] if shown else last


LOGICBLOCKS_TABLE: Final = """
CREATE TABLE events (
    id text PRIMARY KEY, name text NOT NULL, stream text NOT NULL, category text NOT NULL, position int NOT NULL,
    payload jsonb NOT NULL, sequence_number bigserial NOT NULL, observed_at timestamptz NOT NULL,
    occurred_at timestamptz NOT NULL
);
CREATE INDEX ON events (sequence_number);
CREATE INDEX ON events (category, stream, position);
CREATE INDEX ON events (category, sequence_number);
"""


class MessageDb(Peer):
    """`MessageDB.read_category` in one category."""

    categories = 1

    async def open(self, dsn: str) -> None:
        import psycopg2
        from message_db.client import MessageDB
        from message_db.connection import ConnectionPool

        connection = psycopg2.connect(dsn)
        connection.autocommit = True  # its indexes are made concurrently
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA message_store; SET search_path TO message_store, public")
            for file in _message_db_files(Path(os.environ["MESSAGE_DB_SQL"])):
                cursor.execute(file.read_text(encoding="utf-8"))
        connection.close()
        url = urlsplit(dsn)._replace(query=f"options={quote('-c search_path=message_store,public')}").geturl()
        self._store = MessageDB(connection_pool=ConnectionPool.from_url(url, max_connections=WRITERS + 2))

    def _name(self, stream: UUID) -> str:
        return f"account{stream.int % self.categories}-{stream}"

    async def append(self, stream: UUID, version: int, tokens: list[str]) -> None:
        messages = [("Deposited", {"token": token}) for token in tokens]
        await asyncio.to_thread(self._store.write_batch, self._name(stream), messages, expected_version=version - 1)

    async def after(self, last: Any) -> tuple[list[Shown], Any]:
        place = 0 if last is None else last
        messages = await asyncio.to_thread(self._page, place)
        shown = [
            (one["global_position"], one["stream_name"].partition("-")[2], one["position"] + 1, one["data"]["token"])
            for one in messages
        ]
        return shown, shown[-1][0] if shown else last

    def _page(self, place: int) -> list[dict[str, Any]]:
        return self._store.read_category("account0", position=place + 1, no_of_messages=PAGE)


class MessageDbAll(MessageDb):
    """`MessageDB.read("$all")` over four categories."""

    categories = 4

    def _page(self, place: int) -> list[dict[str, Any]]:
        return self._store.read("$all", position=place, no_of_messages=PAGE)


def _message_db_files(sql: Path) -> list[Path]:
    functions = ["message-store-version", "hash-64", "acquire-lock", "category", "is-category", "id", "cardinal-id"]
    functions += ["stream-version", "write-message", "get-stream-messages", "get-category-messages"]
    functions += ["get-last-stream-message"]
    parts = ["types/message.sql", "tables/messages.sql", *(f"functions/{one}.sql" for one in functions)]
    return [file for part in [*parts, "indexes/*.sql"] for file in sorted(sql.glob(part))]


async def play(peer: Peer, dsn: str, seed: int) -> dict[str, Any]:
    """Write and follow, and return the history as JSON would have it."""
    await peer.open(dsn)
    appends: list[dict[str, Any]] = []
    reads: list[dict[str, Any]] = []
    written = asyncio.Event()

    async def write(number: int) -> None:
        chance = random.Random(f"{seed}/{number}")
        stream, version = UUID(int=chance.getrandbits(128), version=4), 0
        for _ in range(APPENDS):
            many = chance.choice([1, 1, 1, 2, LARGEST])
            tokens = [f"{number}/{version + one}" for one in range(many)]
            called = time.monotonic()
            await peer.append(stream, version, tokens)
            answered = time.monotonic()
            appends.append(
                {"stream_id": str(stream), "event_ids": tokens, "expected": version, "called": called}
                | {"answered": answered, "outcome": "acknowledged", "first_version": version + 1, "over": answered}
            )
            version += many

    async def follow() -> None:
        last: Any = None
        quiet_since = time.monotonic()
        while not (written.is_set() and time.monotonic() - quiet_since > QUIET):
            begun = time.monotonic()
            events, last = await peer.after(last)
            ended = time.monotonic()
            if events:
                quiet_since = ended
            else:
                await asyncio.sleep(0.001)
            reads.append({"reader": "follower", "begun": begun, "ended": ended, "events": events, "drained": False})

    following = asyncio.create_task(follow())
    await asyncio.gather(*(write(number) for number in range(WRITERS)))
    written.set()
    await following
    log: list[Shown] = []
    last: Any = None
    while page := await peer.after(last):
        if not page[0]:
            break
        log += page[0]
        last = page[1]
    return {"appends": appends, "log_reads": reads, "stream_reads": [], "log": log, "quiet": []}


PLAYERS: Final[dict[str, Callable[[], Peer]]] = {
    "eventsourcing": Eventsourcing,
    "eventsource_py": EventsourcePy,
    "logicblocks": Logicblocks,
    "message_db_category": MessageDb,
    "message_db_all": MessageDbAll,
}


# --- in the project's environment ------------------------------------------------------------------------------------


def environment(name: str) -> Path:
    """Return the Python of a peer's environment, made if need be."""
    home = ROOT / ".eventstore" / "peers" / name.partition("_category")[0].partition("_all")[0]
    python = home / "bin" / "python"
    if not (home / "complete").exists():
        shutil.rmtree(home, ignore_errors=True)
        base = os.environ.get("PEERS_PYTHON") or shutil.which("python3.13") or sys.executable
        subprocess.run([base, "-m", "venv", home], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *PEERS[name]], check=True)
        (home / "complete").touch()
    return python


def judge(name: str, dsn: str, seed: int) -> str:
    """Play a peer and return what the checker says of it."""
    sys.path.insert(0, str(ROOT / "tests"))
    from fixtures.history.checker import check
    from fixtures.history.process import read_back

    command = [str(environment(name)), __file__, "--play", name, dsn, str(seed)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    history = read_back(done.stdout.splitlines()[-1])
    found = Counter(finding.verdict.value for finding in check(history))
    verdicts = ", ".join(f"{times} {what}" for what, times in sorted(found.items())) or "nothing"
    return f"{name} ({', '.join(PEERS[name])}): {len(history.log)} events, found: {verdicts}"


def main() -> None:
    """Play the peers that are named, or all."""
    if sys.argv[1:2] == ["--play"]:
        _, _, player, address, number = sys.argv
        history = asyncio.run(play(PLAYERS[player](), address, int(number)))
        print(json.dumps(history))
        return
    from eventstore.devserver import start_postgres
    from eventstore.testing.databases import DatabasesForTests

    seed = int(os.environ.get("EVENTSTORE_SEED", "1"))
    server = start_postgres(ROOT / ".eventstore" / "peers" / "postgres", settings={"max_connections": "100"})
    databases = DatabasesForTests(server.dsn, "peers")
    try:
        for name in sys.argv[1:] or PEERS:
            dsn = databases.create(migrated=False)
            try:
                print(judge(name, dsn, seed), flush=True)
            except (subprocess.CalledProcessError, OSError) as error:
                print(f"{name}: could not be run here ({error})", flush=True)
            finally:
                databases.drop(dsn)
    finally:
        server.remove()


if __name__ == "__main__":
    main()
