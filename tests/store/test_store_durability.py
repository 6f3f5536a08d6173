"""A store refuses a server that can lose what it acknowledges, unless server or DSN say that this is wanted."""

from __future__ import annotations

import logging

import asyncpg
import pytest

from eventstore import EventStore
from eventstore.errors import ConfigurationError, UnsafeServerError
from fixtures.own_postgres import OwnPostgres
from fixtures.shop import app
from fixtures.stores import connected

# The tests' own server is unsafe, and says so; a session can take it back.
CHECKED = "?eventstore.durability_check=on"


async def opened(source: str | asyncpg.Pool) -> None:
    async with EventStore.open(source, app):
        pass


async def set_in_database(dsn: str, **settings: str) -> None:
    async with connected(dsn) as connection:
        database = await connection.fetchval("SELECT current_database()")
        for name, value in settings.items():
            await connection.execute(f"ALTER DATABASE {database} SET {name} = {value}")


async def require_unsafe(dsn: str, setting: str) -> None:
    async with connected(dsn) as connection:
        if await connection.fetchval("SELECT current_setting($1)", setting) != "off":
            pytest.skip(f"this run's server has {setting} on")


async def test_fsync_off_is_refused(dsn: str) -> None:
    await require_unsafe(dsn, "fsync")

    with pytest.raises(UnsafeServerError, match="fsync=on") as raised:
        await opened(dsn + CHECKED)

    assert isinstance(raised.value, ConfigurationError)
    assert not raised.value.retryable
    assert raised.value.setting == "fsync"
    assert "?eventstore.durability_check=off" in str(raised.value)


async def test_synchronous_commit_off_is_refused_whoever_set_it(own_dsn: str) -> None:
    await opened(own_dsn)
    await set_in_database(own_dsn, synchronous_commit="off")

    with pytest.raises(UnsafeServerError, match="synchronous_commit=on"):
        await opened(own_dsn)


@pytest.mark.parametrize("level", ["on", "local", "remote_write", "remote_apply"])
async def test_every_other_level_of_synchronous_commit_is_durable_here(own_dsn: str, level: str) -> None:
    await set_in_database(own_dsn, synchronous_commit=level)

    await opened(own_dsn)


async def test_full_page_writes_off_is_only_warned_of(
    own_dsn: str, own_postgres: OwnPostgres, caplog: pytest.LogCaptureFixture
) -> None:
    await own_postgres.set("full_page_writes", "off")
    async with connected(own_dsn) as connection:
        while await connection.fetchval("SHOW full_page_writes") != "off":  # until the session hears of it
            pass

    await opened(own_dsn)

    assert [record.levelno for record in caplog.records if "full_page_writes" in record.message] == [logging.WARNING]


async def test_the_dsn_can_say_that_losses_are_accepted(own_dsn: str) -> None:
    await set_in_database(own_dsn, synchronous_commit="off")

    await opened(own_dsn + "?eventstore.durability_check=off")


async def test_the_database_can_say_so(own_dsn: str) -> None:
    await set_in_database(own_dsn, **{"synchronous_commit": "off", "eventstore.durability_check": "off"})

    await opened(own_dsn)


async def test_a_pool_of_the_users_is_asked_as_well(own_dsn: str) -> None:
    await set_in_database(own_dsn, synchronous_commit="off")

    async with asyncpg.create_pool(own_dsn, min_size=1, max_size=2) as pool:
        with pytest.raises(UnsafeServerError):
            await opened(pool)
    accepting = {"eventstore.durability_check": "off"}
    async with asyncpg.create_pool(own_dsn, min_size=1, max_size=2, server_settings=accepting) as pool:
        await opened(pool)
