"""However a database comes to the newest revision, it is the same database."""

from __future__ import annotations

import asyncio
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.db import Database
from eventstore.db.migrating import migrate, write_sql
from eventstore.db.revisions import current_revision
from eventstore.db.scripts import head_revision, known_revisions, scripts_dir
from eventstore.errors import ConfigurationError, MissingMigrationError, SchemaTooNewError
from eventstore.testing.databases import DatabasesForTests
from fixtures.raw_append import ONE_EVENT
from fixtures.shop import app, placed
from fixtures.stores import connected

ROOT = Path(__file__).parent.parent.parent

CATALOG = """
WITH own AS (SELECT oid FROM pg_namespace WHERE nspname = $1)
SELECT concat_ws(' | ', 'column', c.relname, c.relkind, c.reloptions::text, a.attnum, a.attname,
                 format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, a.attcollation::regcollation,
                 pg_get_expr(d.adbin, d.adrelid), col_description(c.oid, a.attnum))
  FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
 WHERE c.relnamespace IN (TABLE own)
UNION ALL
SELECT concat_ws(' | ', 'table', relname, relkind, obj_description(oid, 'pg_class'), relacl::text)
  FROM pg_class WHERE relnamespace IN (TABLE own)
UNION ALL
SELECT concat_ws(' | ', 'constraint', conrelid::regclass, conname, pg_get_constraintdef(oid))
  FROM pg_constraint WHERE connamespace IN (TABLE own)
UNION ALL
SELECT concat_ws(' | ', 'index', indexdef) FROM pg_indexes WHERE schemaname = $1
UNION ALL
SELECT concat_ws(' | ', 'function', pg_get_functiondef(oid), obj_description(oid, 'pg_proc'))
  FROM pg_proc WHERE pronamespace IN (TABLE own)
UNION ALL
SELECT concat_ws(' | ', 'trigger', pg_get_triggerdef(t.oid), t.tgenabled)
  FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
 WHERE c.relnamespace IN (TABLE own) AND NOT t.tgisinternal
UNION ALL
SELECT concat_ws(' | ', 'sequence', sequencename, data_type, start_value, increment_by, cycle, cache_size)
  FROM pg_sequences WHERE schemaname = $1
"""

SCHEMAS_IN_USE = """
SELECT DISTINCT n.nspname::text FROM pg_namespace n
  JOIN (SELECT relnamespace AS oid FROM pg_class UNION ALL SELECT pronamespace FROM pg_proc
        UNION ALL SELECT typnamespace FROM pg_type) AS used USING (oid)
 WHERE n.nspname !~ '^(pg_|information_schema$)'
"""


async def catalog(dsn: str, schema: str = "eventstore") -> list[str]:
    """Return all that PostgreSQL knows of a schema, except its rows."""
    async with connected(dsn) as connection:
        return sorted(row[0] for row in await connection.fetch(CATALOG, schema))


async def schemas_in_use(dsn: str) -> set[str]:
    async with connected(dsn) as connection:
        return {row[0] for row in await connection.fetch(SCHEMAS_IN_USE)}


async def run(*command: str, dsn: str, **environment: str) -> tuple[int, str]:
    """Run a command of this Python from the repository's root; returns its status and all that it said."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        cwd=ROOT,
        env={**os.environ, "EVENTSTORE_DSN": dsn, **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await process.communicate()
    assert process.returncode is not None
    return process.returncode, said.decode()


async def append_one(dsn: str, schema: str = "eventstore") -> None:
    """Prove that a store works there."""
    async with EventStore.open(dsn, app, schema=schema) as store:
        await store.append("order-works", [placed()], expected_version=NO_STREAM)
        assert len(await store.read_all().to_list()) == 1


def test_the_revisions_that_the_code_knows_are_alembics_own() -> None:
    scripts = ScriptDirectory(str(scripts_dir()))
    ordered = [revision.revision for revision in scripts.walk_revisions()][::-1]

    assert list(known_revisions()) == ordered
    assert head_revision() == scripts.get_current_head()
    assert Config(toml_file=str(ROOT / "pyproject.toml")) is not None


async def test_the_catalog_tells_databases_apart(dsn: str, connection: asyncpg.Connection) -> None:
    """Else the comparisons below would prove nothing."""
    before = await catalog(dsn)
    assert len(before) > 50
    await connection.execute("ALTER TABLE eventstore.events DISABLE TRIGGER events_no_change")
    assert await catalog(dsn) != before


async def test_eight_processes_at_once_migrate_once(dsn: str, empty_dsn: str) -> None:
    async with asyncio.timeout(120):
        ended = await asyncio.gather(*(run("eventstore", "migrate", dsn=empty_dsn) for _ in range(8)))

    assert [status for status, _ in ended] == [0] * 8, ended
    assert await catalog(empty_dsn) == await catalog(dsn)
    await append_one(empty_dsn)


async def test_a_database_that_came_revision_by_revision_equals_a_fresh_one(dsn: str, empty_dsn: str) -> None:
    for revision in known_revisions():
        assert await migrate(empty_dsn, revision=revision) == revision
        async with connected(empty_dsn) as connection:
            await connection.fetch(ONE_EVENT, "order-old", ANY.value, "OrderShipped", 1, '{"carrier": "x"}')

    assert await catalog(empty_dsn) == await catalog(dsn)
    async with EventStore.open(empty_dsn, app) as store:
        versions = [event.stream_version async for event in store.read_stream("order-old")]
        assert versions == list(range(1, len(known_revisions()) + 1))


async def test_plain_alembic_from_the_repositorys_root_makes_the_same(dsn: str, empty_dsn: str) -> None:
    status, said = await run("alembic", "upgrade", "head", dsn=empty_dsn)

    assert status == 0, said
    assert await catalog(empty_dsn) == await catalog(dsn)
    await append_one(empty_dsn)


async def test_plain_alembic_takes_the_schema_from_the_environment(empty_dsn: str) -> None:
    status, said = await run("alembic", "upgrade", "head", dsn=empty_dsn, EVENTSTORE_SCHEMA="shop_log")

    assert status == 0, said
    assert await schemas_in_use(empty_dsn) == {"shop_log"}


async def test_plain_alembic_without_an_address_says_which_variable_it_wants() -> None:
    status, said = await run("alembic", "upgrade", "head", dsn="")

    assert status != 0
    assert "EVENTSTORE_DSN" in said


async def test_the_sql_that_is_written_makes_the_same(dsn: str, empty_dsn: str) -> None:
    sql = io.StringIO()
    write_sql("eventstore", sql)
    async with connected(empty_dsn) as connection:
        await connection.execute(sql.getvalue())
        assert await current_revision(connection, "eventstore") == head_revision()

    assert await catalog(empty_dsn) == await catalog(dsn)
    await append_one(empty_dsn)


async def test_the_sql_of_the_command_is_the_same(dsn: str) -> None:
    sql = io.StringIO()
    write_sql("eventstore", sql)

    status, said = await run("eventstore", "migrate", "--sql", dsn=dsn)

    assert (status, said.strip()) == (0, sql.getvalue().strip())


async def test_migrating_again_changes_nothing(dsn: str) -> None:
    before = await catalog(dsn)

    assert await migrate(dsn) == head_revision()
    assert await catalog(dsn) == before


# --- schemas -------------------------------------------------------------------------------------------------------


async def test_everything_is_in_one_schema_alembics_table_included(empty_dsn: str) -> None:
    await migrate(empty_dsn)

    assert await schemas_in_use(empty_dsn) == {"eventstore"}
    async with connected(empty_dsn) as connection:
        assert await connection.fetchval("SELECT version_num FROM eventstore.alembic_version") == head_revision()


@pytest.mark.parametrize("schema", ["orders", "Orders", "a$1", "select", "x" * 63])
async def test_two_stores_in_one_database_know_nothing_of_each_other(dsn: str, schema: str) -> None:
    before = await catalog(dsn)
    await migrate(dsn, schema=schema)

    await append_one(dsn, schema)
    await append_one(dsn)
    assert await schemas_in_use(dsn) == {"eventstore", schema}
    assert await catalog(dsn) == before


@pytest.mark.parametrize(
    "schema",
    ["", " ", "a b", "a-b", "1a", 'x"; DROP SCHEMA eventstore CASCADE; --', "a.b", "é", "x" * 64, "a\n", "a\0"],
)
async def test_a_hostile_schema_name_is_refused_before_anything_is_sent(schema: str) -> None:
    nowhere = "postgresql://127.0.0.1:1/nothing"
    with pytest.raises(ConfigurationError, match="cannot name a schema"):
        await migrate(nowhere, schema=schema)
    with pytest.raises(ConfigurationError, match="cannot name a schema"):
        write_sql(schema, io.StringIO())
    with pytest.raises(ConfigurationError, match="cannot name a schema"):
        Database(nowhere, schema=schema)


# --- older and newer -----------------------------------------------------------------------------------------------


async def test_a_database_without_the_schema_is_refused_with_the_command_that_makes_it(empty_dsn: str) -> None:
    with pytest.raises(MissingMigrationError, match="`eventstore migrate`") as refusal:
        async with EventStore.open(empty_dsn, app):
            pass

    assert (refusal.value.schema, refusal.value.found) == ("eventstore", None)


@pytest.mark.parametrize("revision", known_revisions()[:-1])
async def test_an_older_schema_is_refused_with_the_command_that_mends_it(empty_dsn: str, revision: str) -> None:
    await migrate(empty_dsn, revision=revision)

    with pytest.raises(MissingMigrationError, match="`eventstore migrate`") as refusal:
        async with EventStore.open(empty_dsn, app):
            pass

    assert (refusal.value.found, refusal.value.needed) == (revision, head_revision())
    await migrate(empty_dsn)
    await append_one(empty_dsn)


async def test_a_newer_schema_is_refused_and_left_alone(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE eventstore.alembic_version SET version_num = '9999'")
    before = await catalog(dsn)

    with pytest.raises(SchemaTooNewError, match="pip install --upgrade pg-eventstore"):
        async with EventStore.open(dsn, app):
            pass
    with pytest.raises(SchemaTooNewError, match="9999"):
        await migrate(dsn)

    assert await catalog(dsn) == before
    assert await current_revision(connection, "eventstore") == "9999"


# --- encodings -----------------------------------------------------------------------------------------------------


@pytest.fixture
def latin_dsn(postgres_server: DatabasesForTests) -> Iterator[str]:
    """The address of an empty database that cannot hold every text."""
    name = f"latin_{uuid4().hex}"
    postgres_server.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    yield postgres_server.dsn_of(name)
    postgres_server.execute(f"DROP DATABASE {name} WITH (FORCE)")


async def test_a_database_that_cannot_hold_every_text_is_neither_migrated_nor_opened(latin_dsn: str) -> None:
    with pytest.raises(ConfigurationError, match=r"encoding is LATIN1.*ENCODING 'UTF8'"):
        await migrate(latin_dsn)
    with pytest.raises(ConfigurationError, match="encoding is LATIN1"):
        async with EventStore.open(latin_dsn, app):
            pytest.fail("it was opened")
    async with connected(latin_dsn) as connection:
        assert await connection.fetchval("SELECT to_regnamespace('eventstore')") is None
