"""Which schema revision a database is at, held against the ones that this code knows; no Alembic is loaded for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eventstore.db.errors import translated
from eventstore.db.queries import quoted
from eventstore.db.scripts import head_revision, known_revisions
from eventstore.errors import MissingMigrationError, SchemaTooNewError

if TYPE_CHECKING:
    from eventstore.db.database import Database

VERSION_TABLE: Final = "alembic_version"


async def current_revision(connection: Any, schema: str) -> str | None:
    """Return the revision that a schema is at; None when it was never migrated."""
    table = f"{quoted(schema)}.{VERSION_TABLE}"
    with translated(schema):
        if await connection.fetchval("SELECT to_regclass($1)", table) is None:
            return None
        found: str | None = await connection.fetchval(f"SELECT version_num FROM {table}")  # noqa: S608 - quoted()
    return found


async def revision_of(database: Database) -> str | None:
    """Return the revision that a store's schema is at; None when it was never migrated."""
    async with database.connection() as connection:
        return await current_revision(connection, database.schema)


async def require_current_schema(database: Database) -> None:
    """Check that a store's schema is the one this code was written for.

    Raises:
        MissingMigrationError: It is absent or older.
        SchemaTooNewError: It is newer.
    """
    found = await revision_of(database)
    if found == head_revision():
        return
    if found is None or found in known_revisions():
        raise MissingMigrationError(database.schema, found, head_revision())
    raise SchemaTooNewError(database.schema, found, head_revision())
