"""What a log costs when it has grown: the same work at ten million events and at ten thousand."""

from __future__ import annotations

import hashlib
import time
from contextlib import AsyncExitStack, asynccontextmanager
from statistics import median
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import asyncpg

from benchmarks import ours, server
from benchmarks.filling import PER_STREAM, copy_anew, copy_streams, stream_name
from benchmarks.results import Row
from benchmarks.works.appends import racing
from eventstore.db.scripts import scripts_dir

if TYPE_CHECKING:
    import random
    from collections.abc import AsyncIterator, Callable

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
"""The last position stands for the number of events: to count ten million would read them, and these appends, none of
which is refused, leave no gaps."""


class Turn(NamedTuple):
    """What a measurement began with and ended with.

    Attributes:
        before: Events in the log at its start.
        after: Events in the log at its end.
        wal: Bytes of WAL that the server wrote meanwhile.
    """

    before: int
    after: int
    wal: float


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
    async with _logs(context) as logs:
        for log in logs:
            append, load = f"append at {log.events:,}", f"load at {log.events:,}"
            subjects[append] = log.turn(append, racing(context, CALLERS, ours.appender(log.store)))
            subjects[load] = log.turn(load, _loading(context, log))
        await context.run(row, subjects)
    for what in ("append", "load"):
        row.compare(f"cost of one {what}", what, f"{what} at {sizes.small:,}", f"{what} at {sizes.big:,}", at_most=1.25)
    row.notes.append(
        f"Appends by {CALLERS} callers to new streams of 10 events, whose ids grow with time (UUIDv7); loads by one "
        f"caller of aggregates of {PER_STREAM} events, drawn from the newest. The ratio is of costs: the small log's "
        "rate over the big one's. A checkpoint is made before each turn."
    )
    row.notes.append(_sizes(logs))
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
    subjects: dict[str, Subject] = {}
    async with _logs(context) as logs:
        for log in logs:
            for phase, seconds in ((AFTER, 0.0), (BETWEEN, sizes.between_checkpoints)):
                name = f"append at {log.events:,}, {phase}"
                race = racing(context, CALLERS, ours.appender_to(log.store, _any_stream(context, log)))
                subjects[name] = log.turn(name, race, after=seconds)
        await context.run(row, subjects)
        shown = await server.settings(context.databases.admin_dsn)
    for phase in (AFTER, BETWEEN):
        big, small = f"append at {sizes.big:,}, {phase}", f"append at {sizes.small:,}, {phase}"
        row.compare(f"cost of one append, {phase}", phase, small, big, at_most=2)
    written = {
        name: median(turn.wal / max(turn.after - turn.before, 1) for turn in turns)
        for log in logs
        for name, turns in log.turns.items()
        if turns
    }
    told = "; ".join(f"{name}: {bytes_of_wal:,.0f}" for name, bytes_of_wal in written.items())
    row.notes.append(
        "Right after a checkpoint an append is dearest: the first change of a page then writes the whole page to the "
        "WAL, and random streams change ever new pages (the index by stream, and the row that is locked). The later "
        f"phase begins {sizes.between_checkpoints:.0f} s after a checkpoint, of the same work. Bytes of WAL for an "
        f"append, medians: {told}. shared_buffers {shown['shared_buffers']}, max_wal_size {shown['max_wal_size']}, "
        f"{CALLERS} callers."
    )
    row.notes.append(
        f"{_sizes(logs)} Between two checkpoints the small log is filled anew once more, right before the turn and "
        "without a checkpoint: all its pages have been written since the last one, as they are after the work."
    )
    return row


class Log:
    """One of the two logs, with a store on it; `turns` has what each measurement saw, those to warm up too.

    The small one is filled anew before each turn: what is appended in one would otherwise be there in the next, and
    after a few of them it would be a log of a million events.
    """

    def __init__(self, store: EventStore, dsn: str, events: int, *, anew: bool) -> None:
        self.store = store
        self.events = events
        self.streams = events // PER_STREAM
        self.turns: dict[str, list[Turn]] = {}
        self.dsn = dsn
        self._anew = anew

    def turn(self, name: str, work: Subject, after: float = 0.0) -> Subject:
        """Return what measures work, which begins with a checkpoint.

        Args:
            name: What `turns` calls it.
            work: Returns the figure.
            after: How long the same work goes on between the checkpoint and the measurement, in seconds.
        """
        turns = self.turns.setdefault(name, [])

        async def subject() -> float:
            await self._fill()
            await server.settle(self.dsn)
            if after:
                began = time.perf_counter()
                while time.perf_counter() < began + after:
                    await work()
                await self._fill()
            wal, events = await self._written()
            assert events == self.events or not self._anew, events  # noqa: S101 - the small log is as small as it says
            figure = await work()
            wal_now, events_now = await self._written()
            turns.append(Turn(events, events_now, float(wal_now - wal)))
            return figure

        return subject

    async def _fill(self) -> None:
        if self._anew:
            await copy_anew(self.dsn, self.events)

    async def _written(self) -> Any:
        connection = await asyncpg.connect(self.dsn)
        try:
            return await connection.fetchrow(_WRITTEN)
        finally:
            await connection.close()


@asynccontextmanager
async def _logs(context: Context) -> AsyncIterator[list[Log]]:
    """Open the big log and the small one."""
    sizes = context.sizes
    async with AsyncExitStack() as stack:
        big = await filled(context)
        small = await stack.enter_async_context(context.databases.fresh())
        yield [
            Log(await stack.enter_async_context(ours.opened(dsn)), dsn, events, anew=dsn is small)
            for dsn, events in ((big, sizes.big), (small, sizes.small))
        ]


def _sizes(logs: list[Log]) -> str:
    told = [
        f"{name}: {_span([turn.before for turn in turns])} and {_span([turn.after for turn in turns])}"
        for log in logs
        for name, turns in log.turns.items()
        if turns
    ]
    return (
        "The small log is filled anew before each turn; the big one keeps what is appended to it, from run to run. "
        "Events in the log at the start and at the end of a turn, by the last position, the turn to warm up included: "
        f"{'; '.join(told)}."
    )


def _span(figures: list[int]) -> str:
    least, most = min(figures), max(figures)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _any_stream(context: Context, log: Log) -> Callable[[], str]:
    chance = context.chance
    return lambda: stream_name(chance.randrange(log.streams))


def _loading(context: Context, log: Log) -> Subject:
    chance: random.Random = context.chance
    keys = [stream_name(number).partition("-")[2] for number in range(max(0, log.streams - RECENT), log.streams)]

    async def subject() -> float:
        began, loads = time.perf_counter(), 0
        while time.perf_counter() < began + context.sizes.seconds:
            await ours.load(log.store, chance.choice(keys))
            loads += 1
        return loads / (time.perf_counter() - began)

    return subject
