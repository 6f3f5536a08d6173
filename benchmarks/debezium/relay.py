"""Whether Debezium is measured in a run, and how it is had."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from benchmarks.debezium import connect
from benchmarks.debezium.locks import connector_version
from benchmarks.peers.environments import CannotBeHadError
from eventstore.devserver import DevServerError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@dataclass(frozen=True, slots=True)
class Debezium:
    """Debezium in a run.

    Attributes:
        directory: Where Kafka Connect has its files.
        left_out: Why it is not measured; None when it is.
    """

    directory: Path = Path()
    left_out: str | None = "it was not asked for"

    @property
    def label(self) -> str:
        """How results name it."""
        return f"Debezium {connector_version().removesuffix('.Final')}, outbox router"

    @asynccontextmanager
    async def running(self, dsn: str, bootstrap: str) -> AsyncIterator[connect.Connect]:
        """Run Kafka Connect for the length of the block.

        Raises:
            CannotBeHadError: It cannot be had here, or the server of this database does not decode its log.
        """
        if self.left_out is not None:
            raise CannotBeHadError(self.left_out)
        if await _wal_level(dsn) != "logical":
            raise CannotBeHadError("it needs a server with wal_level=logical")
        try:
            worker = await asyncio.to_thread(connect.start, self.directory, bootstrap)
        except DevServerError as error:
            raise CannotBeHadError(str(error)) from error
        try:
            yield worker
        finally:
            await asyncio.to_thread(worker.stop)


async def _wal_level(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval("SHOW wal_level"))
    finally:
        await connection.close()
