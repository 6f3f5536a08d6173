"""Logs that are large from the start: streams written side by side, as they are in life, by COPY."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks.domain import DEPOSITS
from benchmarks.raw import COLUMNS
from eventstore.clock import system_clock, uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PER_STREAM: Final = 20
_TOGETHER: Final = 1_000
"""So many streams grow side by side."""

_EMPTY: Final = """
BEGIN;
ALTER TABLE eventstore.events DISABLE TRIGGER events_no_truncate;
TRUNCATE eventstore.events, eventstore.streams RESTART IDENTITY;
ALTER TABLE eventstore.events ENABLE ALWAYS TRIGGER events_no_truncate;
COMMIT;
"""
"""The log refuses to be emptied. A database made anew would have the stores on it opened anew too, with everything cold
that is warm on the other side, and dropping and making databases makes checkpoints of its own."""

_JSON: Final = [event.model_dump_json() for event in DEPOSITS]


def stream_name(number: int) -> str:
    """Return the id of the `number`-th stream: ids grow with time, as UUIDv7 keys do, and end in chance."""
    chance = hashlib.blake2b(number.to_bytes(8), digest_size=10).hexdigest()
    return f"account-{number:012x}{chance}"


async def copy_streams(dsn: str, events: int, tell: Callable[[int], None] = lambda _: None) -> None:
    """Fill a log with streams of 20 events, in the schema's own tables with all their indexes and triggers."""
    connection = await asyncpg.connect(dsn)
    try:
        await _copy(connection, events, tell)
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


async def copy_anew(dsn: str, events: int) -> None:
    """Empty a log and fill it again, with positions from 1 on, while stores are open on it.

    There is no checkpoint: pages that were written after the last one are not written whole to the WAL again.
    """
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(_EMPTY)
        await _copy(connection, events)
    finally:
        await connection.close()


async def _copy(connection: asyncpg.Connection, events: int, tell: Callable[[int], None] = lambda _: None) -> None:
    batch = _TOGETHER * PER_STREAM
    for start in range(0, events, batch):
        first, last = start // PER_STREAM, (min(start + batch, events) - 1) // PER_STREAM
        names = [stream_name(number) for number in range(first, last + 1)]
        async with connection.transaction():
            await connection.copy_records_to_table(
                "streams", schema_name="eventstore", columns=["stream_id"], records=[(name,) for name in names]
            )
            await connection.copy_records_to_table(
                "events",
                schema_name="eventstore",
                columns=COLUMNS,
                records=_rows(names, min(batch, events - start)),
            )
        tell(min(start + batch, events))
    # The server plans with the size that the log has now, and autovacuum finds nothing to do for this.
    await connection.execute("VACUUM (ANALYZE) eventstore.events, eventstore.streams")


def _rows(names: list[str], events: int) -> Iterator[tuple[Any, ...]]:
    now = system_clock()
    for number in range(events):
        version, index = divmod(number, len(names))
        data = _JSON[number & 1023]
        yield (names[index], version + 1, uuid7(), "Deposited", 1, data, None, None, None, now, now)
