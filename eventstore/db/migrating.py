"""Migrations: Alembic, run by `eventstore migrate` and by the plain `alembic` command alike.

All tables live in one PostgreSQL schema, Alembic's version table included. Processes that migrate at once wait for
each other on an advisory lock of the migration's transaction.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
from typing import TYPE_CHECKING, Final, TextIO

import asyncpg
from alembic import command, context, op
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from eventstore.db.database import DEFAULT_SCHEMA
from eventstore.db.errors import connecting, translated
from eventstore.db.queries import quoted
from eventstore.db.revisions import VERSION_TABLE, current_revision
from eventstore.db.scripts import head_revision, known_revisions, scripts_dir
from eventstore.db.sessions import require_utf8
from eventstore.errors import ConfigurationError, SchemaTooNewError

if TYPE_CHECKING:
    from sqlalchemy import Connection as SqlConnection


_MIGRATION_LOCK: Final = -0x6576_656E_7473_746F  # "eventsto" in ASCII; negative, so it is no store's low-water key

_one_at_a_time: Final = threading.Lock()
"""Alembic keeps its context in its modules, so that a process can run one migration at a time."""


def namespace_of(schema: str) -> int:
    """Return the number of a schema's store among advisory locks, 0 to 32767; a clash only costs latency."""
    digest = hashlib.sha256(schema.encode()).digest()
    return (digest[0] << 8 | digest[1]) & 0x7FFF


# --- what callers use ----------------------------------------------------------------------------------------------


async def migrate(dsn: str, *, schema: str = DEFAULT_SCHEMA, revision: str = "head") -> str:
    """Bring a database's schema to a revision (the newest by default) and return the revision it is at.

    Safe to call from many processes at once, and again.

    Raises:
        InvalidDsnError: The DSN cannot be parsed.
        UnavailableError: The database cannot be reached.
        SchemaTooNewError: The schema is newer than this code.
        ConfigurationError: The database's encoding is not UTF8.
    """
    quoted(schema)
    with connecting(dsn):
        connection = await asyncpg.connect(dsn, timeout=10)
    try:
        found = await current_revision(connection, schema)
        if found is not None and found not in known_revisions():
            raise SchemaTooNewError(schema, found, head_revision())
        config = Config(attributes={"dsn": dsn, "schema": schema})
        config.set_main_option("script_location", str(scripts_dir()))
        with translated(schema):
            await asyncio.to_thread(_upgrade, config, revision)  # Alembic is synchronous, and runs a loop of its own
        return await current_revision(connection, schema) or revision
    finally:
        await connection.close()


def _upgrade(config: Config, revision: str) -> None:
    try:
        with _one_at_a_time:
            command.upgrade(config, revision)
    except DBAPIError as error:
        raise (error.orig and error.orig.__cause__) or error from None  # the driver's own, which can be translated


def write_sql(schema: str, out: TextIO) -> None:
    """Write the SQL that creates a schema at the newest revision, for those who run it themselves.

    Raises:
        ConfigurationError: The schema's name is no identifier.
    """
    quoted(schema)
    config = Config(output_buffer=out, attributes={"schema": schema})
    config.set_main_option("script_location", str(scripts_dir()))
    with _one_at_a_time:
        command.upgrade(config, "head", sql=True)


# --- what Alembic's env.py and the revisions use -----------------------------------------------------------------


def run_environment() -> None:
    """Run the migrations of the current Alembic context, with the DSN from the caller or EVENTSTORE_DSN.

    Raises:
        ConfigurationError: No DSN is given.
    """
    attributes = context.config.attributes
    schema = attributes.get("schema") or os.environ.get("EVENTSTORE_SCHEMA", DEFAULT_SCHEMA)
    attributes["schema"] = schema
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", version_table=VERSION_TABLE, version_table_schema=schema)
        with context.begin_transaction():
            context.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
            context.run_migrations()
        return
    dsn = attributes.get("dsn") or os.environ.get("EVENTSTORE_DSN")
    if not dsn:
        raise ConfigurationError("no database to migrate: set EVENTSTORE_DSN to its postgresql:// address")
    asyncio.run(_run_online(dsn, schema))


async def _run_online(dsn: str, schema: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn, timeout=10), poolclass=NullPool
    )
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_run_in_transaction, schema)
    finally:
        await engine.dispose()


def _run_in_transaction(connection: SqlConnection, schema: str) -> None:
    require_utf8(str(connection.execute(text("SHOW server_encoding")).scalar()))
    connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}"))
    context.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=schema)
    context.run_migrations()


def run_sql_file(name: str) -> None:
    """Run one file of `migrations/sql`, several statements, for the schema that is being migrated."""
    schema = context.config.attributes["schema"]
    sql = (scripts_dir() / "sql" / name).read_text(encoding="utf-8")
    sql = sql.replace("{schema}", quoted(schema)).replace("{namespace}", str(namespace_of(schema)))
    if context.is_offline_mode():
        op.get_context().impl.static_output(sql)  # as it is: op.execute would double each %
        return
    driver = op.get_bind().connection.dbapi_connection
    assert driver is not None  # noqa: S101 - an open connection has one
    driver.run_async(lambda connection: connection.execute(sql))
