"""Names by chance and with intent: stream ids, categories and schemas are refused, or they are harmless and kept."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from eventstore import NO_STREAM, EventStore, StreamId
from eventstore.clock import uuid7
from eventstore.db import Database
from eventstore.db.migrating import migrate, write_sql
from eventstore.db.queries import quoted
from eventstore.errors import ConfigurationError, InvalidArgumentError, InvalidStreamIdError
from eventstore.streams import MAX_STREAM_ID_BYTES, category_of, slice_of
from eventstore.testing import memory_store
from fixtures import shop
from fixtures.shop import placed
from fixtures.stores import open_store

ATTACKS = [
    "'; DROP TABLE eventstore.events; --",
    '"; DROP SCHEMA eventstore CASCADE; --',
    "$1",
    "$$; SELECT 1; $$",
    "%",
    "%s",
    "_",
    "{}",
    "{schema}",
    "{0.__class__}",
    "${HOME}",
    "\\",
    "\\'",
    "../../etc/passwd",
    "..\\..",
    "a/b",
    "//",
    "-",
    "--",
    "/* */",
    "\x00",
    "\n",
    "\x7f",
    "\ud800",
    "\u202e",
    "\u2028",
    "\ufeff",
    "\uff41",
    "İ",
    "e\u0301",
    "\U0001f469\u200d\U0001f4bb",
    " ",
    "NULL",
    "x" * 300,
    "é" * 130,
    "x" * 249,
]
pieces = st.lists(
    st.sampled_from(ATTACKS) | st.text(st.characters(codec=None, categories=None), max_size=8), min_size=0, max_size=3
).map("".join)


@pytest.fixture
async def both(dsn: str) -> AsyncIterator[tuple[EventStore, EventStore]]:
    """A store on PostgreSQL, and one in memory that has to agree with it."""
    async with open_store(dsn) as store:
        yield store, memory_store(shop.app)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(category=pieces, key=pieces)
@example(category="order", key="'; DROP TABLE eventstore.events; --")
@example(category='"; DROP SCHEMA eventstore CASCADE; '.replace("-", ""), key="1")
@example(category="%", key="%")
@example(category="_", key="{}")
@example(category="order", key="x" * (MAX_STREAM_ID_BYTES - 6))
@example(category="order", key="é" * 124)
@example(category="order", key="a-b--c-")
async def test_a_stream_id_is_refused_or_kept_as_it_is(
    both: tuple[EventStore, EventStore], connection: asyncpg.Connection, category: str, key: str
) -> None:
    key = f"{key}{uuid7().hex[-4:]}" if len(f"{category}-{key}".encode(errors="replace")) < 200 else key
    try:
        stream_id = StreamId(category, key)
    except InvalidStreamIdError as error:
        str(error).encode()  # what was refused can be shown
        return

    written = str(stream_id)
    for store in both:
        result = await store.append(stream_id, [placed()], expected_version=NO_STREAM)
        (event,) = await store.read_stream(written).to_list()
        info = await store.stream_info(written)
        listed = [each.stream_id async for each in store.list_streams(category=category)]
        of_category = {each.stream_id for each in await store.read_all(categories=[category]).to_list()}

        assert StreamId.parse(event.stream_id) == stream_id
        assert result.stream_id == event.stream_id == written
        assert info is not None
        assert info.category == category == category_of(written)
        assert written in listed
        assert set(listed) == of_category
        assert {StreamId.parse(each).category for each in listed} == {category}  # no wildcard, no prefix
    in_sql = await connection.fetchrow("SELECT eventstore.category_of($1), eventstore.slice_of($1)", written)
    assert in_sql is not None
    assert tuple(in_sql) == (category, slice_of(written))


@settings(max_examples=300)
@given(text=pieces)
@example(text="acme/order-1")
@example(text="a/b/order-1")
def test_a_written_stream_id_is_refused_or_parsed_and_written_again(text: str) -> None:
    try:
        parsed = StreamId.parse(text)
    except InvalidStreamIdError as error:
        str(error).encode()
        return
    assert str(parsed) == text
    assert category_of(text) == parsed.category


@pytest.mark.parametrize("text", ATTACKS, ids=ascii)
async def test_a_question_with_a_hostile_text_finds_nothing_or_is_refused(any_store: EventStore, text: str) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    unstorable = "\x00" in text or "\ud800" in text

    if unstorable:
        with pytest.raises(InvalidArgumentError, match="NUL"):
            any_store.read_all(categories=[text])
        with pytest.raises(InvalidArgumentError, match="NUL"):
            [info async for info in any_store.list_streams(category=text)]
        with pytest.raises(InvalidArgumentError, match="NUL"):
            [info async for info in any_store.list_streams(after=text)]
    else:
        assert await any_store.read_all(categories=[text]).to_list() == []
        assert [info async for info in any_store.list_streams(category=text)] == []
        after = [info.stream_id async for info in any_store.list_streams(after=text)]
        assert after == (["order-1"] if text.encode() < b"order-1" else [])
    assert len(await any_store.read_all().to_list()) == 1


# --- schemas ---------------------------------------------------------------------------------------------------------

identifiers = st.text("abzAZ_019$p.-\"' ;{}%", max_size=70) | pieces


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=identifiers)
@example(name="a$$b")
@example(name="a$$")
@example(name="pg_mine")
@example(name="PG_mine")
@example(name="information_schema")
@example(name="x" * 63)
@example(name="x" * 64)
@example(name="a\n")
async def test_a_schema_name_is_refused_or_names_that_schema_and_nothing_else(
    connection: asyncpg.Connection, name: str
) -> None:
    try:
        identifier = quoted(name)
    except ConfigurationError as error:
        str(error).encode()
        return

    before = set(await connection.fetch("SELECT nspname::text FROM pg_namespace"))
    async with connection.transaction():
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {identifier}")
        body = (
            f"CREATE FUNCTION {identifier}.f() RETURNS text LANGUAGE plpgsql AS $$ BEGIN RETURN '{identifier}'; END $$"
        )
        await connection.execute(body)
        assert await connection.fetchval(f"SELECT {identifier}.f()") == identifier
        made = set(await connection.fetch("SELECT nspname::text FROM pg_namespace")) - before
        assert [row[0] for row in made] in ([name], [])
        drop = f"SCHEMA {identifier} CASCADE" if made else f"FUNCTION {identifier}.f"
        await connection.execute(f"DROP {drop}")


@pytest.mark.parametrize("schema", ["a$$b", "a$$", "pg_mine", "pg_catalog", "information_schema", *ATTACKS], ids=ascii)
async def test_a_hostile_schema_reaches_neither_a_store_nor_a_migration(schema: str) -> None:
    if schema in {"_", "NULL"}:
        quoted(schema)  # odd, and harmless in quotes
        return
    nowhere = "postgresql://127.0.0.1:1/nowhere"
    with pytest.raises(ConfigurationError, match="schema"):
        await migrate(nowhere, schema=schema)
    with pytest.raises(ConfigurationError, match="schema"):
        write_sql(schema, io.StringIO())
    with pytest.raises(ConfigurationError, match="schema"):
        Database(nowhere, schema=schema)
    with pytest.raises(ConfigurationError, match="schema"):
        async with EventStore.open(nowhere, shop.app, schema=schema):
            pytest.fail("a store was opened")


@pytest.mark.parametrize("schema", ["_", "NULL", "PG_mine", "a$b$c", "a$", "public"])
async def test_an_odd_schema_holds_a_store_like_any_other(empty_dsn: str, schema: str) -> None:
    await migrate(empty_dsn, schema=schema)
    async with EventStore.open(empty_dsn, shop.app, schema=schema) as store:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
        assert len(await store.read_all().to_list()) == 1
