"""The tables of a projection: made once, found by their bare names, emptied or replaced by a rebuild."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.db import DEFAULT_SCHEMA, Answering
from eventstore.db.errors import translated
from eventstore.db.queries import quoted
from eventstore.errors import LeaseLostError

if TYPE_CHECKING:
    from eventstore.db import Connection, Database
    from eventstore.db.database import ConnectionSession
    from eventstore.projections.projection import Projection


class ReadModel:
    """The tables of one projection, or those of its rebuild.

    Args:
        projection: The projection.
        store_schema: The PostgreSQL schema of the store: each store has read models of its own.
        rebuild: Whether these are the tables that a rebuild fills, beside the ones in use.
    """

    def __init__(self, projection: Projection, *, store_schema: str = DEFAULT_SCHEMA, rebuild: bool = False) -> None:
        suffix = "_rebuild" if rebuild else ""
        schema = projection.schema_in(store_schema)
        self.projection = projection
        self.name = f"{projection.consumer_name}{suffix}"
        self.schema = f"{schema}{suffix}" if schema else None

    async def ensure(self, database: Database) -> int:
        """Make the tables if they were never made; return their generation. Safe from many processes at once."""
        known = await Answering(database).fetchrow("read_model", self.name)  # the usual case, which waits for nobody
        if known is not None:
            return int(known[0])
        async with database.transaction() as session:
            await session.fetchrow("lock_read_models", database.schema)
            known = await session.fetchrow("read_model", self.name)
            if known is not None:
                return int(known[0])
            await self._make(session)
            return await self.note_replaced(session)

    async def use(self, connection: Connection) -> None:
        """Let bare table names mean these tables until the transaction ends."""
        if path := self._search_path:
            await set_search_path(connection, path)

    async def hold(self, session: ConnectionSession, generation: int) -> None:
        """Keep a rebuild from replacing the tables until the transaction ends; till then bare table names mean these.

        Raises:
            LeaseLostError: They were replaced since `ensure` returned this generation.
        """
        row = await session.fetchrow("hold_read_model", self.name, self._search_path)
        if row is None or row[0] != generation:
            raise LeaseLostError(self.name)

    async def seize(self, session: ConnectionSession) -> int:
        """Wait until nobody holds the tables, let nobody do so until the transaction ends; return their generation.

        Raises:
            LeaseLostError: They were never made, or are forgotten.
        """
        row = await session.fetchrow("seize_read_model", self.name)
        if row is None:
            raise LeaseLostError(self.name)
        return int(row[0])

    async def note_replaced(self, session: ConnectionSession) -> int:
        """Note that the tables are new; returns their generation."""
        row = await session.fetchrow("replace_read_model", self.name)
        assert row is not None  # noqa: S101 - RETURNING
        return int(row[0])

    @property
    def _search_path(self) -> str | None:
        return f"{quoted(self.schema)}, public" if self.schema else None

    async def _make(self, session: ConnectionSession) -> None:
        if self.schema is None or self.projection.setup is None:
            return
        with translated(session.queries.schema):
            await session.connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(self.schema)}")
            await self.use(session.connection)
            await session.connection.execute(self.projection.setup)


async def set_search_path(connection: Connection, search_path: str) -> None:
    """Say what bare table names mean until the transaction ends."""
    await connection.execute("SELECT set_config('search_path', $1, true)", search_path)
