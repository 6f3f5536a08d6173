"""An outbox table with the columns of the log, and the connector that routes its inserts to a topic.

Debezium reads the inserts of an outbox table from the write-ahead log, whoever made them and whether the row is still
there. So the table is what is called for: the log's columns, and no index but the primary key, which is less than the
log itself has. A backlog is what was inserted while the connector was stopped: its replication slot resumes there, and
its Java, which went on running, is warm.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks.broker import create_topic, watching
from benchmarks.peers.client import PeerFailedError
from benchmarks.raw import COLUMNS
from benchmarks.server import execute

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from benchmarks.broker import Watcher
    from benchmarks.debezium.connect import Connect

CHUNK: Final = 20_000
"""Rows of a backlog that are inserted in one transaction; fewer would cost Debezium more."""

INSERT: Final = (
    f"INSERT INTO outbox.events ({', '.join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"  # noqa: S608 - constants
)

_TABLE: Final = """
CREATE SCHEMA outbox;
CREATE TABLE outbox.events (LIKE eventstore.events INCLUDING DEFAULTS INCLUDING IDENTITY);
ALTER TABLE outbox.events ADD PRIMARY KEY (global_position);
"""
_HEADERS: Final = (
    "event_type:header:ce_type",
    "schema_version:header",
    "stream_id:header",
    "stream_version:header",
    "global_position:header",
    "occurred_at:header:ce_time",
    "recorded_at:header",
    "correlation_id:header",
    "causation_id:header",
)
"""What varies among the publisher's headers; the router adds the event's id by itself."""

_SECONDS: Final = 120.0
_LOOK_EVERY: Final = 0.02


class ConnectorError(PeerFailedError):
    """The connector failed, or does nothing; the message has the end of its trace."""


class Outbox:
    """An outbox table and its connector. Made by `opened_outbox`.

    Attributes:
        topic: Where its rows go.
    """

    def __init__(self, connect: Connect, dsn: str, bootstrap: str, topic: str) -> None:
        self._connect = connect
        self._name = f"outbox_{urlsplit(dsn).path[1:]}"
        self._dsn = dsn
        self._bootstrap = bootstrap
        self.topic = topic

    async def stop(self) -> None:
        """Stop reading; what is inserted from now on becomes a backlog."""
        await self._ask("PUT", f"/connectors/{self._name}/stop")
        await self._until_slot_is(active=False)

    async def resume(self) -> None:
        """Read again from where it stopped; returns when the server streams to it."""
        await self._ask("PUT", f"/connectors/{self._name}/resume")
        await self._until_slot_is(active=True)

    async def refill(self, events: int) -> None:
        """Empty the table and insert the log's first events, in their order, as the rows of a backlog."""
        columns = ", ".join(COLUMNS)
        await execute(self._dsn, "TRUNCATE outbox.events")
        for start in range(0, events, CHUNK):
            await execute(
                self._dsn,
                f"INSERT INTO outbox.events ({columns}) SELECT {columns} FROM eventstore.events "  # noqa: S608 - constants
                f"ORDER BY global_position OFFSET {start} LIMIT {min(CHUNK, events - start)}",
            )

    async def require_running(self) -> None:
        """Check that it works.

        Raises:
            ConnectorError: It does not.
        """
        status = await self._ask("GET", f"/connectors/{self._name}/status")
        for part in (status["connector"], *status["tasks"]):
            if part["state"] == "FAILED":
                raise ConnectorError(part.get("trace", "it says nothing")[-1000:])

    async def route(self, events: int) -> float:
        """Work a backlog off, stop again, and return how many events a second went to the topic.

        The clock runs from the first look at which there are records, less those, to the one at which all are there.

        Raises:
            ConnectorError: They do not all come.
        """
        async with watching(self._bootstrap, self.topic) as watcher:
            before = await watcher.count()
            await self.resume()
            try:
                first = await self._count_above(watcher, before)
                began = time.perf_counter()
                last = await self._count_above(watcher, before + events - 1)
                took = time.perf_counter() - began
            finally:
                await self.stop()
        if last != before + events:
            raise ConnectorError(f"{last - before} records came for {events} rows")
        return (last - first) / took

    async def create(self, overrides: Mapping[str, str]) -> None:
        """Make the table, the topic and the connector, and return when it reads."""
        await execute(self._dsn, _TABLE)
        await create_topic(self._bootstrap, self.topic)
        settings = {**_settings(self._name, self._dsn, self.topic), **overrides}
        await self._ask("POST", "/connectors", {"name": self._name, "config": settings})
        await self._until_slot_is(active=True)

    async def delete(self) -> None:
        """Remove the connector, and its slot, which would keep the write-ahead log for ever."""
        await self._ask("DELETE", f"/connectors/{self._name}")
        await self._until_slot_is(active=False)
        await execute(self._dsn, f"SELECT pg_drop_replication_slot('{self._name}')")

    async def _count_above(self, watcher: Watcher, bound: int) -> int:
        """Return how many records there are, once it is more than so many."""
        deadline = time.monotonic() + _SECONDS
        while (count := await watcher.count()) <= bound:
            if time.monotonic() > deadline:
                await self.require_running()
                raise ConnectorError(f"no more than {count} records came within {_SECONDS:.0f} s")
            await asyncio.sleep(_LOOK_EVERY)
        return count

    async def _until_slot_is(self, *, active: bool) -> None:
        deadline = time.monotonic() + _SECONDS
        connection = await asyncpg.connect(self._dsn)
        try:
            while True:
                query = "SELECT coalesce(bool_or(active), false) FROM pg_replication_slots WHERE slot_name = $1"
                if await connection.fetchval(query, self._name) is active:
                    return
                if active:
                    await self.require_running()
                if time.monotonic() > deadline:
                    raise ConnectorError(f"its slot is not {'' if active else 'in'}active after {_SECONDS:.0f} s")
                await asyncio.sleep(0.02)
        finally:
            await connection.close()

    async def _ask(self, method: str, path: str, body: object = None) -> Any:
        return await asyncio.to_thread(self._connect.ask, method, path, body)


@asynccontextmanager
async def opened_outbox(
    connect: Connect, dsn: str, bootstrap: str, topic: str, overrides: Mapping[str, str] = MappingProxyType({})
) -> AsyncIterator[Outbox]:
    """Have an outbox in a migrated database for the length of the block, read by a connector.

    Args:
        connect: Kafka Connect.
        dsn: The database.
        bootstrap: The broker.
        topic: Where the rows go; it is made.
        overrides: Settings of the connector beside ours.

    Raises:
        ConnectorError: The connector does not start.
    """
    outbox = Outbox(connect, dsn, bootstrap, topic)
    await outbox.create(overrides)
    try:
        yield outbox
    finally:
        await outbox.delete()


def _settings(name: str, dsn: str, topic: str) -> dict[str, str]:
    database = urlsplit(dsn)
    return {
        "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
        "database.hostname": database.hostname or "",
        "database.port": str(database.port or 5432),
        "database.user": database.username or "postgres",
        "database.password": database.password or "",
        "database.dbname": database.path[1:],
        "topic.prefix": name,
        "plugin.name": "pgoutput",
        "slot.name": name,
        "publication.name": name,
        "publication.autocreate.mode": "filtered",
        "table.include.list": "outbox.events",
        "snapshot.mode": "no_data",
        "tombstones.on.delete": "false",
        "transforms": "outbox",
        "transforms.outbox.type": "io.debezium.transforms.outbox.EventRouter",
        "transforms.outbox.table.field.event.id": "event_id",
        "transforms.outbox.table.field.event.key": "stream_id",
        "transforms.outbox.table.field.event.payload": "data",
        "transforms.outbox.table.fields.additional.placement": ",".join(_HEADERS),
        "transforms.outbox.route.by.field": "event_type",
        "transforms.outbox.route.topic.replacement": topic,
    }
