"""Migrating from this process: from many tasks, to a schema of any plain name, all or nothing."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import NO_STREAM, EventStore
from eventstore.db.migrating import migrate, namespace_of
from eventstore.db.scripts import head_revision
from eventstore.errors import EventStoreError, InvalidDsnError, UnavailableError
from fixtures.shop import app, placed
from fixtures.stores import connected


async def test_many_tasks_can_migrate_at_once_and_again(empty_dsn: str) -> None:
    """Alembic keeps its context in its modules, so a process runs one migration at a time."""
    schemas = ["eventstore", "eventstore", "shop", "other"]

    assert await asyncio.gather(*(migrate(empty_dsn, schema=schema) for schema in schemas)) == [head_revision()] * 4
    assert await migrate(empty_dsn) == head_revision()


@pytest.mark.parametrize("schema", ["shop", "My_Store$1", "s" * 63, "select"])
async def test_a_schema_can_have_any_plain_name(empty_dsn: str, schema: str) -> None:
    await migrate(empty_dsn, schema=schema)

    async with EventStore.open(empty_dsn, app, schema=schema) as store:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
        assert len(await store.read_all().to_list()) == 1


async def test_a_migration_that_fails_leaves_nothing_behind(empty_dsn: str) -> None:
    async with connected(empty_dsn) as connection:
        await connection.execute("CREATE SCHEMA eventstore; CREATE TABLE eventstore.snapshots ()")

        with pytest.raises(EventStoreError, match="already exists"):
            await migrate(empty_dsn)

        tables = await connection.fetch("SELECT relname FROM pg_class WHERE relnamespace = 'eventstore'::regnamespace")
        assert [row[0] for row in tables] == ["snapshots"]


async def test_an_address_that_is_none_is_refused() -> None:
    for address in ("", "localhost/shop"):
        with pytest.raises(InvalidDsnError):
            await migrate(address)
    with pytest.raises(UnavailableError):
        await migrate("postgresql://127.0.0.1:1/shop")


def test_a_schemas_number_among_locks_never_changes() -> None:
    """Old and new code on one schema must announce themselves to each other."""
    numbers = {"eventstore": 29948, "shop": 3472, "other": 22825}

    assert {schema: namespace_of(schema) for schema in numbers} == numbers
