"""A connection that breaks at a bad moment is told as what it is; the history campaigns found these moments."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore, UnavailableError
from fixtures.shop import placed
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy, When


async def kill(killer: asyncpg.Connection, victim: asyncpg.Connection) -> None:
    """End a connection's server process, and wait until the client has noticed."""
    gone: list[object] = []
    victim.add_termination_listener(gone.append)
    pid = victim.get_server_pid()
    await killer.execute("SELECT pg_terminate_backend($1, 5000)", pid)
    while not gone:
        await killer.execute("SELECT")


async def test_a_connection_that_breaks_between_two_appends_of_a_transaction_is_unavailable_not_closed(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    with pytest.raises(UnavailableError):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            await kill(connection, tx.connection)
            await tx.append("order-1", [placed()], expected_version=1)

    assert await store.stream_info("order-1") is None


async def test_a_connection_that_breaks_before_its_transaction_begins_is_unavailable_not_closed(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    async with store.database.connection(reset=True) as borrowed:
        await kill(connection, borrowed)
        with pytest.raises(UnavailableError):
            async with store.database.transaction_on(borrowed):
                pytest.fail("a transaction on a broken connection")


async def test_a_connection_that_breaks_before_its_commit_is_unavailable_not_closed(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    with pytest.raises(UnavailableError):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            await kill(connection, tx.connection)

    assert await store.stream_info("order-1") is None


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
async def test_a_connection_that_breaks_after_the_commit_takes_nothing_back(proxy: TcpProxy, when: When) -> None:
    """Settings are undone after the commit: what breaks there is no concern of the caller's."""
    async with open_store(proxy.dsn) as store:
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            proxy.cut_at(b"RESET ALL", when)

        assert proxy.was_cut.is_set()
        assert [event.stream_id for event in await store.read_all().to_list()] == ["order-1"]


async def test_a_connection_that_breaks_while_its_caller_is_cancelled_does_not_hide_the_cancellation(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """asyncpg's pool then takes the connection back by itself, and objects to being given it once more."""
    release = asyncpg.Pool.release

    async def released_twice(pool: asyncpg.Pool, connection: Any, **options: Any) -> None:
        await release(pool, connection, **options)
        raise asyncpg.InternalClientError("PoolConnectionHolder.release() called on a free connection holder")

    monkeypatch.setattr(asyncpg.Pool, "release", released_twice)

    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    assert await store.stream_info("order-1") is not None
