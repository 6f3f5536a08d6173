"""message-db-py: Message DB's functions in the database, called through psycopg2 from threads.

Its messages are untyped: reading makes a slotted dataclass of each, the least that "typed" can mean. Message DB itself
is SQL that the library does not bring: `environments` fetches its package, and this installs it as its script does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit
from uuid import UUID

import psycopg2
from message_db.client import MessageDB
from message_db.connection import ConnectionPool

from benchmarks.payload import fields
from benchmarks.peers.serving import BlockingPeer

SQL_VARIABLE = "BENCH_MESSAGE_DB_SQL"
PAGE = 5_000
PARTS = (
    "types/message.sql",
    "tables/messages.sql",
    *(
        f"functions/{name}.sql"
        for name in (
            "message-store-version",
            "hash-64",
            "acquire-lock",
            "category",
            "is-category",
            "id",
            "cardinal-id",
            "stream-version",
            "write-message",
            "get-stream-messages",
            "get-category-messages",
            "get-last-stream-message",
        )
    ),
    "indexes/*.sql",
)
"""In the order of its install script, without views and privileges, and without pgcrypto: PostgreSQL has its one
function built in since version 13."""


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


class Peer(BlockingPeer):
    """Writes and reads messages."""

    copying = """
        INSERT INTO message_store.messages (position, time, stream_name, type, data, metadata)
        SELECT position, time, 'account-' || md5(stream_name || copy)::uuid, type, data, metadata
          FROM message_store.messages, generate_series(1, {copies}) AS copy
         ORDER BY copy, global_position
    """

    async def open(self) -> None:
        """Install Message DB and connect."""
        connection = psycopg2.connect(self.dsn)
        connection.autocommit = True  # its indexes are made concurrently
        with connection.cursor() as cursor:
            cursor.execute("CREATE SCHEMA message_store")
            cursor.execute("SET search_path TO message_store, public")
            for file in _files(Path(os.environ[SQL_VARIABLE])):
                cursor.execute(file.read_text(encoding="utf-8"))
        connection.close()
        url = urlsplit(self.dsn)._replace(query=f"options={quote('-c search_path=message_store,public')}").geturl()
        self._pool = ConnectionPool.from_url(url, max_connections=self.connections)
        self.store = MessageDB(connection_pool=self._pool)

    async def close(self) -> None:
        """Disconnect."""
        self._pool.closeall()

    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Write one message to a stream that is at this version; its versions count from 0, and -1 is none."""
        self.store.write(f"account-{stream}", "Deposited", fields(number), expected_version=version - 1)

    async def append_any(self, stream: UUID, number: int) -> None:
        """Write without an expected version."""
        self.store.write(f"account-{stream}", "Deposited", fields(number))

    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Write; after a conflict look at the last message."""
        while True:
            try:
                self.store.write(f"account-{stream}", "Deposited", fields(number), expected_version=version - 1)
            except ValueError as error:
                if "Wrong expected version" not in str(error):
                    raise
                version = self.store.read_last_message(f"account-{stream}")["position"] + 1
            else:
                return version + 1

    async def fill(self, stream: UUID, numbers: range) -> None:
        """Write all in one transaction."""
        self.store.write_batch(f"account-{stream}", [("Deposited", fields(number)) for number in numbers])

    async def load(self, stream: UUID) -> int:
        """Fold a stream by hand: the library has no aggregates."""
        amount = deposits = 0
        for message in self.store.read_stream(f"account-{stream}", no_of_messages=1_000_000):
            amount += Deposited(**message["data"]).amount
            deposits += 1
        return deposits

    async def read_all(self, limit: int) -> int:
        """Read everything, page by page."""
        seen = position = 0
        while seen < limit:
            page = self.store.read("$all", position=position, no_of_messages=PAGE)
            if not page:
                break
            for message in page:
                Deposited(**message["data"])
            seen += len(page)
            position = page[-1]["global_position"]
        return seen


def _files(sql: Path) -> list[Path]:
    files = [file for part in PARTS for file in sorted(sql.glob(part))]
    if not files:
        raise FileNotFoundError(f"no SQL of Message DB in {sql}")
    return files
