"""Appending and reading use their indexes, on an empty schema that was never analysed and with generic plans too."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.clock import uuid7
from eventstore.db import Queries
from eventstore.errors import WrongExpectedVersionError
from eventstore.testing import FakeClock
from fixtures.shop import SHIPPED, placed
from fixtures.stores import connected

NOW = FakeClock()()


async def test_losers_draw_no_position(store: EventStore, connection: asyncpg.Connection) -> None:
    async def drawn() -> int:
        return int(await connection.fetchval("SELECT last_value FROM eventstore.events_global_position_seq"))

    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    before = await drawn()
    for expected in (NO_STREAM, 7):
        with pytest.raises(WrongExpectedVersionError):
            await store.append("order-1", [placed(), SHIPPED], expected_version=expected)

    assert await drawn() == before


async def test_an_append_leaves_no_dead_row_in_streams(store: EventStore, connection: asyncpg.Connection) -> None:
    """Beside an open old snapshot dead rows cannot be vacuumed, and a busy stream becomes slower and slower."""
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    before = await connection.fetchval("SELECT ctid::text || xmin::text FROM eventstore.streams")

    for _ in range(5):
        await store.append("order-1", [placed()], expected_version=ANY)

    assert await connection.fetchval("SELECT ctid::text || xmin::text FROM eventstore.streams") == before


async def append(
    connection: asyncpg.Connection, stream_ids: Sequence[str], expected: int, *, look_up_ids: bool
) -> None:
    wait, count, numbers = False, len(stream_ids), list(range(1, len(stream_ids) + 1))
    await connection.fetch(
        Queries("eventstore")["append"],
        wait,
        sorted(stream_ids),
        numbers,
        [expected] * count,
        [1] * count,
        [look_up_ids] * count,
        numbers,
        [uuid7() for _ in stream_ids],
        ["OrderPlaced"] * count,
        [2] * count,
        ['{"sku": "tea", "quantity": 1}'] * count,
        [None] * count,
        [None] * count,
        [None] * count,
        [NOW] * count,
    )


@pytest.mark.parametrize("look_up_ids", [False, True])
async def test_every_statement_of_the_append_function_uses_its_index(dsn: str, *, look_up_ids: bool) -> None:
    async with connected(dsn) as connection:
        plans: list[str] = []
        connection.add_log_listener(lambda _, message: plans.append(str(message)))
        await explain_everything(connection)
        for number in range(10):  # from the sixth on, plans may be generic
            await append(connection, [f"order-{number}"], 0, look_up_ids=look_up_ids)
            await append(connection, ["order-0"], number + 1, look_up_ids=look_up_ids)
            await append(connection, ["order-0"], 99, look_up_ids=look_up_ids)
            await append(connection, [f"note-{number}-{n}" for n in range(50)], 0, look_up_ids=look_up_ids)

    scanned = [scan for plan in plans for scan in scans(plan)]
    assert {"streams", "events"} <= {table for table, _ in scanned}
    assert [scan for scan in scanned if scan[1] is None] == []


@pytest.mark.parametrize("wait", [False, True])
async def test_every_statement_of_the_function_for_one_append_uses_its_index(dsn: str, *, wait: bool) -> None:
    query = Queries("eventstore")["append_one"]
    async with connected(dsn) as connection:
        plans: list[str] = []
        connection.add_log_listener(lambda _, message: plans.append(str(message)))
        await explain_everything(connection)
        for number in range(10):  # as above
            for expected in (number, 99):
                columns = (uuid7(), "OrderPlaced", 2, "{}", None, None, None, NOW)
                await connection.fetch(query, wait, "order-1", expected, *columns)

    scanned = [scan for plan in plans for scan in scans(plan)]
    assert {"streams", "events"} <= {table for table, _ in scanned}
    assert [scan for scan in scanned if scan[1] is None] == []


async def explain_everything(connection: asyncpg.Connection) -> None:
    """Have the server send the plan of every statement, those inside functions too."""
    try:
        await connection.execute("LOAD 'auto_explain'")
    except asyncpg.PostgresError as error:
        pytest.skip(f"auto_explain cannot be loaded: {error}")
    await connection.execute("""
        SET client_min_messages = log;
        SET auto_explain.log_min_duration = 0;
        SET auto_explain.log_nested_statements = on;
        SET auto_explain.log_format = json;
    """)


def scans(plan: str) -> Iterator[tuple[str, str | None]]:
    """Yield each scan of the store's tables in a logged plan, with the index that it uses."""
    found = re.search(r"plan:\s*(\{.*\})", plan, re.DOTALL)
    if found:
        yield from _scans(json.loads(found[1])["Plan"])


def _scans(node: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    if node.get("Relation Name") in {"streams", "events", "snapshots"} and node["Node Type"] != "ModifyTable":
        yield node["Relation Name"], node.get("Index Name")
    for inner in node.get("Plans", ()):
        yield from _scans(inner)


READS = {
    "events_by_ids": 2,
    "read_stream": 7,
    "read_stream_backwards": 7,
    "read_all": 8,
    "read_on": 9,
    "read_everything_on": 4,
    "event_at": 1,
    "stream_info": 1,
    "read_everything": 3,
    "load_folded": 5,
    "load_many": 3,
    "snapshot_versions": 2,
    "await_stream": 1,
}
"""The reads on hot paths, with the number of their parameters."""


@pytest.mark.parametrize(("name", "parameters"), READS.items(), ids=READS)
async def test_the_plan_that_a_session_keeps_for_a_read_uses_its_index(
    connection: asyncpg.Connection, name: str, parameters: int
) -> None:
    await connection.execute("SET plan_cache_mode = force_generic_plan")
    await connection.execute(f"PREPARE query AS {Queries('eventstore')[name]}")

    plan = await connection.fetchval(f"EXPLAIN (FORMAT json) EXECUTE query ({', '.join(['NULL'] * parameters)})")

    scanned = list(_scans(json.loads(plan)[0]["Plan"]))
    assert scanned
    assert [scan for scan in scanned if scan[1] is None] == []
