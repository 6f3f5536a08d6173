"""What goes wrong while a store is opened is said in a typed error, with a way out, and never with the password."""

from __future__ import annotations

import logging
import socket
import traceback

import asyncpg
import pytest

from eventstore import EventStore
from eventstore.config import Settings
from eventstore.db.migrating import migrate
from eventstore.db.scripts import head_revision
from eventstore.errors import (
    ConfigurationError,
    EventStoreError,
    InvalidArgumentError,
    InvalidDsnError,
    MissingMigrationError,
    SchemaTooNewError,
    UnavailableError,
    UnsupportedServerError,
)
from eventstore.store.log import LogRange, StreamRange
from eventstore.testing.databases import DatabasesForTests
from fixtures.fake_postgres import fake_postgres, refusal, welcome
from fixtures.shop import app
from fixtures.stores import open_store

PASSWORD = "s3cret-p4ssword"  # noqa: S105 - what must not be shown


async def failure(dsn: str, *, schema: str = "eventstore") -> EventStoreError:
    """Return what opening a store fails with, after looking for the password everywhere around it."""
    with pytest.raises(EventStoreError) as raised:
        async with EventStore.open(dsn, app, schema=schema):
            pytest.fail("the store was opened")
    error = raised.value
    shown = "".join(traceback.format_exception(error)) + repr(error) + repr(error.args)
    assert PASSWORD not in shown
    assert error.__cause__ is None
    return error


MALFORMED = {
    "no scheme": f"user:{PASSWORD}@localhost/shop",
    "another scheme": f"mysql://user:{PASSWORD}@localhost/shop",
    "empty": "",
    "port that is no number": f"postgresql://user:{PASSWORD}@localhost:port/shop",
    "password with a slash": f"postgresql://user:{PASSWORD}/x@localhost:5432/shop",
    "password with an open bracket": f"postgresql://user:[{PASSWORD}@localhost/shop",
    "unknown sslmode": f"postgresql://user:{PASSWORD}@localhost/shop?sslmode=perhaps",
}


@pytest.mark.parametrize("dsn", MALFORMED.values(), ids=MALFORMED)
async def test_a_malformed_dsn_is_refused_and_never_shown(dsn: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    error = await failure(dsn)

    assert isinstance(error, InvalidDsnError)
    assert not error.retryable
    assert PASSWORD not in caplog.text


@pytest.mark.parametrize("sqlstate", ["28P01", "28000"])
async def test_a_wrong_password_is_a_configuration_error(sqlstate: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    said = refusal(sqlstate, f'password authentication failed for user "{PASSWORD}"')
    async with fake_postgres(said) as address:
        error = await failure(f"postgresql://user:{PASSWORD}@{address}/shop")

    assert type(error) is ConfigurationError
    assert "password" in str(error)
    assert PASSWORD not in caplog.text


async def test_a_missing_database_is_a_configuration_error(postgres_server: DatabasesForTests) -> None:
    error = await failure(postgres_server.dsn_of("no_such_database"))

    assert type(error) is ConfigurationError
    assert "does not exist" in str(error)


@pytest.mark.parametrize("host", ["127.0.0.1", "no-such-host.invalid"])
async def test_a_server_that_cannot_be_reached_is_unavailable(host: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

    error = await failure(f"postgresql://user:{PASSWORD}@{host}:{port}/shop")

    assert isinstance(error, UnavailableError)
    assert error.retryable


@pytest.mark.parametrize("sqlstate", ["57P01", "57P02", "57P03", "53300"])
async def test_a_server_that_takes_nobody_in_just_now_is_unavailable(sqlstate: str) -> None:
    async with fake_postgres(refusal(sqlstate, "not now")) as address:
        error = await failure(f"postgresql://user:{PASSWORD}@{address}/shop")

    assert isinstance(error, UnavailableError)


async def test_a_server_that_is_too_old_is_refused() -> None:
    async with fake_postgres(welcome("14.9")) as address:
        error = await failure(f"postgresql://user:{PASSWORD}@{address}/shop")

    assert isinstance(error, UnsupportedServerError)
    assert (error.found, error.needed) == ("14.9", "15")


def test_settings_do_not_show_the_address() -> None:
    assert PASSWORD not in repr(Settings(dsn=f"postgresql://user:{PASSWORD}@localhost/shop"))


async def test_the_store_does_not_show_the_address(dsn: str) -> None:
    async with open_store(dsn) as store:
        assert "127.0.0.1" not in f"{store!r} {store.database!r} {vars(store)!r}"


# --- the schema ----------------------------------------------------------------------------------------------------


async def test_a_database_that_was_never_migrated_says_what_to_run(empty_dsn: str) -> None:
    error = await failure(empty_dsn)

    assert isinstance(error, MissingMigrationError)
    assert (error.schema, error.found, error.needed) == ("eventstore", None, head_revision())
    assert "eventstore migrate" in str(error)


async def test_another_schema_of_a_migrated_database_was_never_migrated(dsn: str) -> None:
    error = await failure(dsn, schema="other")

    assert isinstance(error, MissingMigrationError)
    assert error.schema == "other"


async def test_an_older_schema_says_where_it_is(empty_dsn: str) -> None:
    await migrate(empty_dsn, revision="0001")

    error = await failure(empty_dsn)

    assert isinstance(error, MissingMigrationError)
    assert error.found == "0001"


async def test_a_newer_schema_says_to_upgrade_the_service(dsn: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE eventstore.alembic_version SET version_num = '9999'")

    error = await failure(dsn)

    assert isinstance(error, SchemaTooNewError)
    assert (error.found, error.needed) == ("9999", head_revision())
    assert "pg-eventstore" in str(error)
    with pytest.raises(SchemaTooNewError):
        await migrate(dsn)


@pytest.mark.parametrize("schema", ["", "a b", 'a"b', "a;drop table x", "1a", "x" * 64, "é", "eventstore.events"])
async def test_a_schema_name_that_is_no_identifier_is_refused(dsn: str, schema: str) -> None:
    error = await failure(dsn, schema=schema)

    assert type(error) is ConfigurationError


async def test_a_store_on_a_schema_that_vanished_says_so(dsn: str, connection: asyncpg.Connection) -> None:
    async with open_store(dsn) as store:
        await connection.execute("DROP SCHEMA eventstore CASCADE")

        with pytest.raises(MissingMigrationError):
            await store.read_stream("order-1").to_list()


# --- values --------------------------------------------------------------------------------------------------------


async def test_a_value_that_postgresql_cannot_take_is_refused_and_not_shown(store: EventStore) -> None:
    """The store refuses these in the caller; what still gets as far as the driver is told by its type."""
    reads = [
        store.log.read_stream(StreamRange("order-1", from_version=2**63), 10),
        store.log.read_all(LogRange(), 10**30, 10**30, 10),
        store.log.read_all(LogRange(categories=[f"{PASSWORD}\x00"]), 0, 10, 10),
        store.log.read_all(LogRange(categories=[f"{PASSWORD}\ud800"]), 0, 10, 10),
    ]
    for read in reads:
        with pytest.raises(InvalidArgumentError) as raised:
            await read
        assert PASSWORD not in str(raised.value)
