"""What a log costs when it has grown: the same work at ten million events and at ten thousand."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack
from statistics import median
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

AFTER: Final = "right after a checkpoint"
BETWEEN: Final = "between two checkpoints"

_WRITTEN: Final = """
SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn AS wal, last_value AS events
  FROM eventstore.events_global_position_seq
"""


def kept_name(events: int) -> str:
    """Return the name of the database that stays between runs; it changes with the migrations."""
    digest = hashlib.sha256()
    for file in sorted((scripts_dir() / "sql").glob("*.sql")):
        digest.update(file.read_bytes())
    return f"kept_{events}_{digest.hexdigest()[:12]}"


async def filled(context: Context) -> str:
    """Return the address of the big log, which is filled once and stays between runs."""
    dsn = await fill(context.databases, context.sizes.big, context.tell)
    context.tell("reading the big log")
    await server.read_once(dsn)
    return dsn


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
    """Measure appends to streams drawn from the whole log, right after a checkpoint and between two of them."""
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
            for phase, seconds in ((AFTER, 0.0), (BETWEEN, sizes.between_checkpoints)):
                name = f"append at {events:,}, {phase}"
                log = _OldStreams(context, store, dsn, events // PER_STREAM)
                subjects[name] = log.appending(seconds, written.setdefault(name, []))
        await context.run(row, subjects)
        shown = await server.settings(context.databases.admin_dsn)
    for phase in (AFTER, BETWEEN):
        big, small = f"append at {sizes.big:,}, {phase}", f"append at {sizes.small:,}, {phase}"
        row.compare(f"cost of one append, {phase}", phase, small, big, at_most=2)
    told = "; ".join(f"{name}: {median(figures):,.0f}" for name, figures in written.items())
    row.notes.append(
        "Right after a checkpoint an append is dearest: the first change of a page then writes the whole page to the "
        "WAL, and random streams change ever new pages (the index by stream, and the row that is locked). The later "
        f"phase begins {sizes.between_checkpoints:.0f} s after a checkpoint, of the same work. Bytes of WAL for an "
        f"append, medians: {told}. shared_buffers {shown['shared_buffers']}, max_wal_size {shown['max_wal_size']}, "
        f"{CALLERS} callers."
    )
    return row


class _OldStreams:
    """A log whose streams are appended to, drawn from all of them."""

    def __init__(self, context: Context, store: EventStore, dsn: str, streams: int) -> None:
        chance = context.chance
        self._race = racing(context, CALLERS, ours.appender_to(store, lambda: stream_name(chance.randrange(streams))))
        self._dsn = dsn

    def appending(self, seconds: float, written: list[float]) -> Subject:
        """Return what measures appends from some seconds after a checkpoint on.

        Args:
            seconds: How long the same work goes on before.
            written: Hears how many bytes of WAL an append took.
        """

        async def subject() -> float:
            connection = await asyncpg.connect(self._dsn)
            try:
                await connection.execute("CHECKPOINT")
                began = time.perf_counter()
                while time.perf_counter() < began + seconds:
                    await self._race()
                wal, events = await connection.fetchrow(_WRITTEN)
                rate = await self._race()
                wal_now, events_now = await connection.fetchrow(_WRITTEN)
                written.append(float(wal_now - wal) / max(events_now - events, 1))
                return rate
            finally:
                await connection.close()

        return subject


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
