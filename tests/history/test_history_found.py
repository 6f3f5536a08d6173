"""What random schedules have found once, held at the very place by a gate."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from eventstore import ANY, STREAM_EXISTS, EventStore
from fixtures.history.build import make_test_build
from fixtures.shop import placed
from fixtures.stores import connected


@pytest.mark.parametrize("expected", [STREAM_EXISTS, 1])
async def test_an_append_that_expects_a_stream_finds_one_that_is_begun_while_it_looks(
    dsn: str, store: EventStore, connection: asyncpg.Connection, expected: int
) -> None:
    """It has found no row to lock; then the stream's first transaction commits; then it reads the version."""
    await make_test_build(connection)
    await connection.execute("SELECT pg_advisory_lock(1, 1)")
    at_the_gate = asyncio.Event()
    async with connected(dsn) as late:
        late.add_log_listener(lambda *_: at_the_gate.set())
        await late.execute("SET history.gates = 'read'; SET history.actor = '1'; BEGIN")
        async with store.bind(late) as tx:
            async with store.transaction() as first:
                await first.append("order-1", [placed()], expected_version=ANY)
                appending = asyncio.create_task(tx.append("order-1", [placed()], expected_version=expected))
                await at_the_gate.wait()
            await connection.execute("SELECT pg_advisory_unlock(1, 1)")

            result = await appending
        await late.execute("COMMIT")

    assert result.stream_version == 2
