"""What a careful programmer writes with asyncpg alone: the measure of what the framework costs.

Raw rows go to a table of the same definition, with the same constraints and indexes, in a schema of its own. It has
no triggers: the low-water lock and the guards are the framework's own cost, and raw code does not pay for them.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks.domain import Account, Balance, Deposited, deposit
from benchmarks.payload import EVENTS_PER_STREAM
from eventstore.clock import system_clock, uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.racing import AsyncStep

COLUMNS: Final = (
    "stream_id",
    "stream_version",
    "event_id",
    "event_type",
    "schema_version",
    "data",
    "metadata",
    "correlation_id",
    "causation_id",
    "occurred_at",
    "recorded_at",
)
TABLE: Final = "CREATE SCHEMA raw; CREATE TABLE raw.events (LIKE eventstore.events INCLUDING ALL)"
INSERT: Final = f"INSERT INTO raw.events ({', '.join(COLUMNS)}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)"  # noqa: S608 - constants
SELECT: Final = (
    "SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version, data, metadata, "
    "correlation_id, causation_id, occurred_at, recorded_at FROM eventstore.events"
)
SELECT_TO_FOLD: Final = (
    "SELECT stream_version, event_type, schema_version, data FROM eventstore.events "
    "WHERE stream_id = $1 ORDER BY stream_version"
)
"""What folding needs: ids and times that nobody looks at would double what a row costs the client."""
PAGE: Final = 5_000


def pool(dsn: str, size: int) -> AbstractAsyncContextManager[asyncpg.Pool]:
    """Return a pool whose connections are all open, and that spares the reset on release as the framework's does."""

    async def no_reset(_: asyncpg.Connection) -> None:
        """Spare the round trip."""

    made: AbstractAsyncContextManager[asyncpg.Pool] = asyncpg.create_pool(
        dsn, min_size=size, max_size=size, reset=no_reset
    )
    return made


def row(stream_id: str, version: int, event: Deposited) -> tuple[Any, ...]:
    """Return one complete row, encoded as the framework encodes it."""
    now = system_clock()
    return (stream_id, version, uuid7(), "Deposited", 1, event.model_dump_json(), None, None, None, now, now)


def rows(number: int, per_stream: int = EVENTS_PER_STREAM) -> Iterator[tuple[Any, ...]]:
    """Yield so many rows of whole streams."""
    stream_id = ""
    for index in range(number):
        if index % per_stream == 0:
            stream_id = f"account-{uuid7()}"
        yield row(stream_id, index % per_stream + 1, deposit(index))


def appender(pool: asyncpg.Pool) -> Callable[[int], AsyncStep]:
    """Return callers that insert and commit one event at a time, each into streams of its own."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        stream_id = ""

        async def step() -> None:
            nonlocal stream_id
            number = next(numbers)
            version = number % EVENTS_PER_STREAM + 1
            if version == 1:
                stream_id = f"account-{uuid7()}"
            values = row(stream_id, version, deposit(number))
            async with pool.acquire() as connection:
                await connection.fetch(INSERT, *values)

        return step

    return caller


def transactional_appender(pool: asyncpg.Pool) -> Callable[[int], AsyncStep]:
    """Return the same with BEGIN and COMMIT around each INSERT."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        stream_id = ""

        async def step() -> None:
            nonlocal stream_id
            number = next(numbers)
            version = number % EVENTS_PER_STREAM + 1
            if version == 1:
                stream_id = f"account-{uuid7()}"
            values = row(stream_id, version, deposit(number))
            async with pool.acquire() as connection, connection.transaction():
                await connection.fetch(INSERT, *values)

        return step

    return caller


def contender(pool: asyncpg.Pool, stream_id: str) -> Callable[[int], AsyncStep]:
    """Return callers that write to one stream: insert at the next version, and look and try again when it is taken."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        version = 0

        async def step() -> None:
            nonlocal version
            event = deposit(next(numbers))
            async with pool.acquire() as connection:
                while True:
                    try:
                        await connection.fetch(INSERT, *row(stream_id, version + 1, event))
                    except asyncpg.UniqueViolationError:
                        version = await connection.fetchval(
                            "SELECT coalesce(max(stream_version), 0) FROM raw.events WHERE stream_id = $1", stream_id
                        )
                    else:
                        version += 1
                        return

        return step

    return caller


async def copy(connection: asyncpg.Connection, records: list[tuple[Any, ...]]) -> None:
    """Copy rows into the indexed table."""
    await connection.copy_records_to_table("events", schema_name="raw", records=records, columns=COLUMNS)


async def load_stream(pool: asyncpg.Pool, stream_id: str) -> int:
    """Fetch a stream's rows and validate their payloads; returns how many there are."""
    validate = Deposited.__pydantic_validator__.validate_json
    found = await pool.fetch(f"{SELECT} WHERE stream_id = $1 ORDER BY stream_version", stream_id)
    return len([validate(record["data"]) for record in found])


async def fold_stream(pool: asyncpg.Pool, stream_id: str) -> int:
    """Fetch of a stream's rows what folding needs, validate and fold them; returns how many there are.

    Nothing is kept of an event that is folded: ten thousand models that live are work for the garbage collector.
    """
    validators = {("Deposited", 1): Deposited.__pydantic_validator__.validate_json}
    state, version = Balance(), 0
    for stream_version, event_type, schema_version, data in await pool.fetch(SELECT_TO_FOLD, stream_id):
        state = Account.evolve(state, validators[event_type, schema_version](data))
        version = stream_version
    assert state.deposits == version  # noqa: S101 - a fold that skips is none
    return state.deposits


async def read_log(pool: asyncpg.Pool, limit: int) -> int:
    """Fetch the log page by page and validate the payloads; returns how many there are."""
    validate = Deposited.__pydantic_validator__.validate_json
    after = seen = 0
    while seen < limit:
        found = await pool.fetch(f"{SELECT} WHERE global_position > $1 ORDER BY global_position LIMIT {PAGE}", after)
        if not found:
            break
        seen += len([validate(record["data"]) for record in found])
        after = found[-1]["global_position"]
    return seen
