"""The server of a run: embedded PostgreSQL 18, durable, on the real disk, with a fresh database for each subject."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks.raw import TABLE
from eventstore.devserver import DevServerError, start_postgres
from eventstore.errors import ConfigurationError
from eventstore.testing.databases import DatabasesForTests

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from eventstore.devserver import PostgresServer

SETTINGS: Final = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "shared_buffers": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "max_connections": "400",
}
FILLING: Final = {**SETTINGS, "fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
"""For the one time that a cached database is filled; nothing is measured then."""
DECODED: Final = {**SETTINGS, "wal_level": "logical"}
"""For the rows beside Debezium, which reads the write-ahead log. They have a server of their own, because a replication
slot that a killed run leaves there keeps the server from starting without it."""

SHOWN: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "data_checksums",
    "wal_sync_method",
    "wal_compression",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
    "max_connections",
    "autovacuum",
    "io_method",
    "jit",
)
_SHOW: Final = "SELECT current_setting($1, true)"
"""Null for a setting that this version has not."""
_READ_ONCE: Final = """
CREATE EXTENSION IF NOT EXISTS pg_prewarm;
SELECT pg_prewarm(oid::regclass, 'read')
  FROM pg_class
 WHERE relnamespace = 'eventstore'::regnamespace AND relkind IN ('r', 'i');
"""
_DURABLE: Final = ("fsync", "synchronous_commit", "full_page_writes")


def start(directory: Path, settings: Mapping[str, str] = SETTINGS) -> PostgresServer:
    """Start the server of the benchmarks, or take over the one that runs."""
    return start_postgres(directory, settings=settings)


@contextmanager
def given_or_own(dsn: str | None, directory: Path) -> Iterator[str]:
    """Return the address of the server that was given, or start our own for the length of the block."""
    if dsn:
        yield dsn
        return
    with start(directory) as running:
        yield running.dsn


class Databases:
    """Databases of a run: migrated ones, ones with the raw table too, and empty ones for peers."""

    def __init__(self, dsn: str, name: str = "bench") -> None:
        self.admin_dsn = dsn
        self._all = DatabasesForTests(dsn, name)
        # What an earlier run left, its template too: the migrations may have changed since.
        for leftover in self._named(f"{name}_"):
            self._drop(self._all.dsn_of(leftover))
        self._all.make_template()

    @asynccontextmanager
    async def fresh(self, *, migrated: bool = True) -> AsyncIterator[str]:
        """Make a database for as long as the block lasts: migrated and with the raw table, or empty."""
        dsn = self._all.create(migrated=migrated)
        try:
            if migrated:
                await execute(dsn, TABLE)
            yield dsn
        finally:
            self._drop(dsn)

    def kept(self, name: str) -> str | None:
        """Return the address of a database that stays between runs, if it is complete."""
        there = self._all.ask(f"SELECT count(*) FROM pg_database WHERE datname = '{name}'")  # noqa: S608 - our own name
        return self._all.dsn_of(name) if there else None

    def keep(self, dsn: str, name: str) -> str:
        """Keep a database under a name, which it gets now that it is complete, in the place of its forerunners.

        Those have the same name up to its last underscore: they were made by other migrations.
        """
        made = dsn.rpartition("/")[2]
        for old in self._named(name.rpartition("_")[0] + "_"):
            self._all.drop(self._all.dsn_of(old))
        self._all.execute(f'ALTER DATABASE "{made}" RENAME TO "{name}"')
        return self._all.dsn_of(name)

    def _drop(self, dsn: str) -> None:
        """Drop a database, and the replication slots that would keep it."""
        slots = f"FROM pg_replication_slots WHERE database = '{dsn.rpartition('/')[2]}'"  # our own name
        self._all.execute(f"SELECT pg_terminate_backend(active_pid, 5000) {slots} AND active")
        self._all.execute(f"SELECT pg_drop_replication_slot(slot_name) {slots}")
        self._all.drop(dsn)

    def _named(self, prefix: str) -> list[str]:
        query = f"SELECT string_agg(datname, ' ') FROM pg_database WHERE starts_with(datname, '{prefix}')"  # noqa: S608 - our own name
        return (self._all.ask(query) or "").split()

    def close(self) -> None:
        """Drop the template."""
        self._all.drop_template()

    def make(self) -> str:
        """Make a migrated database that the caller keeps."""
        return self._all.create()


async def execute(dsn: str, sql: str) -> None:
    """Run statements on a connection of their own."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(sql)
    finally:
        await connection.close()


async def settle(dsn: str) -> None:
    """Have all that was written before on the disk: else who is measured next waits for it."""
    await execute(dsn, "CHECKPOINT")
    await asyncio.to_thread(os.sync)


async def read_once(dsn: str) -> None:
    """Read all of a log once, as its users have: after a start of the machine all of it is on the disk alone."""
    await execute(dsn, _READ_ONCE)


async def settings(dsn: str) -> dict[str, str]:
    """Return the server's settings that matter here.

    Raises:
        ConfigurationError: It is not durable: what it does is then not what is compared.
    """
    connection = await asyncpg.connect(dsn)
    try:
        shown = {name: value for name in SHOWN if (value := await connection.fetchval(_SHOW, name)) is not None}
        shown["data_directory"] = await connection.fetchval("SHOW data_directory")
    finally:
        await connection.close()
    loose = [name for name in _DURABLE if shown[name] != "on"]
    if loose:
        raise ConfigurationError(f"{', '.join(loose)} must be on: figures of a server that may lose data say nothing")
    return shown


def filesystem_of(directory: str) -> str:
    """Return the kind of file system that a directory is on, and its device.

    Raises:
        DevServerError: It is in memory, where a commit costs nothing.
    """
    best = ("", "", "")
    for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines():
        device, mount, kind = line.split()[:3]
        inside = directory == mount or directory.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[1]):
            best = (device, mount, kind)
    if best[2] in {"tmpfs", "ramfs"}:
        raise DevServerError(f"the database is on {best[2]}: choose a directory on a disk with --state")
    return f"{best[2]} on {best[0]}"
