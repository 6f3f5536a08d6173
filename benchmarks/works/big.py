"""What a log costs when it has grown: the same work at ten million events and at ten thousand."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks import ours, server
from benchmarks.filling import PER_STREAM, copy_streams, stream_name
from benchmarks.results import Row
from benchmarks.works.appends import racing
from eventstore.db.scripts import scripts_dir

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from benchmarks.context import Context
    from benchmarks.rounds import Subject
    from benchmarks.server import Databases
    from eventstore import EventStore

CALLERS: Final = 32
RECENT: Final = 1_000
"""So many of the newest streams are loaded."""


def kept_name(events: int) -> str:
    """Return the name of the database that stays between runs; it changes with the migrations."""
    digest = hashlib.sha256()
    for file in sorted((scripts_dir() / "sql").glob("*.sql")):
        digest.update(file.read_bytes())
    return f"kept_{events}_{digest.hexdigest()[:12]}"


async def filled(context: Context) -> str:
    """Return the address of the big log, which is filled once and stays between runs."""
    return await fill(context.databases, context.sizes.big, context.tell)


async def fill(databases: Databases, events: int, tell: Callable[[str], None]) -> str:
    """Fill the big log, unless it is there, and return its address."""
    kept = databases.kept(kept_name(events))
    if kept is None:
        dsn = databases.make()
        await copy_streams(dsn, events, lambda done: tell(f"filling the big log: {done:,} of {events:,} events"))
        kept = databases.keep(dsn, kept_name(events))
    return kept


async def recent(context: Context) -> Row:
    """Measure appends to streams that are new, and loads of streams that are nearly so."""
    sizes = context.sizes
    row = Row(
        "big-recent",
        f"append and load at {sizes.big:,} events against at {sizes.small:,}, appends to recent streams",
        "operations/s",
        lower_is_better=False,
    )
    subjects: dict[str, Subject] = {}
    async with AsyncExitStack() as stack:
        for events, dsn in ((sizes.big, await filled(context)), (sizes.small, await _small(context, stack))):
            store = await stack.enter_async_context(ours.opened(dsn))
            subjects[f"append at {events:,}"] = racing(context, CALLERS, ours.appender(store))
            subjects[f"load at {events:,}"] = _loading(context, store, events // PER_STREAM)
        await context.run(row, subjects)
    for what in ("append", "load"):
        row.compare(f"cost of one {what}", what, f"{what} at {sizes.small:,}", f"{what} at {sizes.big:,}", at_most=1.25)
    row.notes.append(
        f"Appends by {CALLERS} callers to new streams of 10 events, whose ids grow with time (UUIDv7); loads by one "
        f"caller of aggregates of {PER_STREAM} events, drawn from the newest. The ratio is of costs: the small log's "
        "rate over the big one's."
    )
    return row


async def old(context: Context) -> Row:
    """Measure appends to streams drawn from the whole log, each round right after a checkpoint."""
    sizes = context.sizes
    row = Row(
        "big-old",
        f"append at {sizes.big:,} events against at {sizes.small:,}, to uniformly random old streams",
        "events/s",
        lower_is_better=False,
    )
    written: dict[str, list[float]] = {}
    subjects: dict[str, Subject] = {}
    async with AsyncExitStack() as stack:
        for events, dsn in ((sizes.big, await filled(context)), (sizes.small, await _small(context, stack))):
            store = await stack.enter_async_context(ours.opened(dsn))
            name = f"append at {events:,}"
            subjects[name] = _appending_to_old(context, store, dsn, events // PER_STREAM, written.setdefault(name, []))
        await context.run(row, subjects)
        shown = await server.settings(context.databases.admin_dsn)
    big_name, small_name = f"append at {sizes.big:,}", f"append at {sizes.small:,}"
    row.compare("cost of one append", "append", small_name, big_name, at_most=2)
    told = "; ".join(f"{name}: {max(figures):,.0f} bytes of WAL each" for name, figures in written.items())
    row.notes.append(
        "Each round begins right after a checkpoint, its dearest moment: the first change of a page writes the whole "
        f"page to the WAL, and random streams change ever new pages. {told}. shared_buffers {shown['shared_buffers']}, "
        f"max_wal_size {shown['max_wal_size']}, {CALLERS} callers."
    )
    return row


async def _small(context: Context, stack: AsyncExitStack) -> str:
    dsn = await stack.enter_async_context(context.databases.fresh())
    await copy_streams(dsn, context.sizes.small)
    return dsn


def _loading(context: Context, store: EventStore, streams: int) -> Subject:
    chance: random.Random = context.chance
    keys = [stream_name(number).partition("-")[2] for number in range(max(0, streams - RECENT), streams)]

    async def subject() -> float:
        began, loads = time.perf_counter(), 0
        while time.perf_counter() < began + context.sizes.seconds:
            await ours.load(store, chance.choice(keys))
            loads += 1
        return loads / (time.perf_counter() - began)

    return subject


def _appending_to_old(context: Context, store: EventStore, dsn: str, streams: int, written: list[float]) -> Subject:
    chance = context.chance
    race = racing(context, CALLERS, ours.appender_to(store, lambda: stream_name(chance.randrange(streams))))

    async def subject() -> float:
        connection = await asyncpg.connect(dsn)
        try:
            await connection.execute("CHECKPOINT")
            before = await connection.fetchval("SELECT pg_current_wal_insert_lsn()")
            events = await connection.fetchval("SELECT last_value FROM eventstore.events_global_position_seq")
            rate = await race()
            grown = await connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
            events = await connection.fetchval("SELECT last_value FROM eventstore.events_global_position_seq") - events
            written.append(float(grown) / max(events, 1))
            return rate
        finally:
            await connection.close()

    return subject
