"""Single-event appends by many callers in one process."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import ours, pgbench, raw
from benchmarks.context import asking
from benchmarks.racing import race
from benchmarks.results import OURS, Row
from eventstore.devserver import DevServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.context import Context
    from benchmarks.racing import AsyncStep
    from benchmarks.rounds import Subject

CONNECTIONS: Final = 32
SWEEP: Final = (4, 8, 16, 32, 64)


def racing(context: Context, callers: int, make: Callable[[int], AsyncStep]) -> Subject:
    """Return the subject that lets callers race for the run's while; the figure is events a second."""

    async def subject() -> float:
        return (await race(callers, context.sizes.seconds, make)).rate

    return subject


async def by_32(context: Context) -> Row:
    """Measure 32 callers against raw asyncpg over 32 connections, pgbench, and the peers."""
    row = Row(
        "appends-32", "single-event appends, 32 concurrent callers in one process", "events/s", lower_is_better=False
    )
    raw_name = f"asyncpg, INSERT per commit, {CONNECTIONS} connections"
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        raw_dsn = await stack.enter_async_context(context.databases.fresh())
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(raw_dsn, CONNECTIONS))
        peers = await stack.enter_async_context(context.peers(row))
        subjects = {
            OURS: racing(context, 32, ours.appender(store)),
            raw_name: racing(context, 32, raw.appender(pool)),
        }
        try:
            pgbench.program()
        except DevServerError as reason:
            row.missing["pgbench"] = str(reason)
        else:
            bench_dsn = await stack.enter_async_context(context.databases.fresh())
            subjects["pgbench, the same INSERT, 32 clients"] = _pgbench(context, bench_dsn)
        for name, peer in peers.items():
            subjects[name] = asking(peer, "appends", callers=32, seconds=context.sizes.seconds)
        await context.run(row, subjects)
    row.compare(f"over {raw_name}", "raw asyncpg", OURS, raw_name, at_least=1.7, stretch=3)
    row.compare_with_best(OURS, list(peers), at_least=8)
    row.notes.append(
        "Streams of 10 events, each append at the version it expects; raw INSERT checks nothing but the unique index. "
        "The framework has its default pool of 10 connections, each peer one of 32."
    )
    return row


def _pgbench(context: Context, dsn: str) -> Subject:
    runs = iter(range(1_000_000))

    async def subject() -> float:
        return await pgbench.run(
            dsn, clients=32, seconds=context.sizes.seconds, number=next(runs), directory=context.directory
        )

    return subject


async def by_256(context: Context) -> Row:
    """Measure 256 callers against raw asyncpg at its best number of connections."""
    row = Row(
        "appends-256", "single-event appends, 256 concurrent callers in one process", "events/s", lower_is_better=False
    )
    names = {size: f"asyncpg, INSERT per commit, {size} connections" for size in SWEEP}
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        raw_dsn = await stack.enter_async_context(context.databases.fresh())
        store = await stack.enter_async_context(ours.opened(dsn))
        subjects = {OURS: racing(context, 256, ours.appender(store))}
        for size, name in names.items():
            pool = await stack.enter_async_context(raw.pool(raw_dsn, size))
            subjects[name] = racing(context, 256, raw.appender(pool))
        await context.run(row, subjects)
    best = row.best(list(names.values()))
    row.compare(
        "over asyncpg at its best number of connections", "raw asyncpg at its best", OURS, best, at_least=2.4, stretch=4
    )
    row.notes.append(f"The best number of connections was found in the same run: {best}.")
    return row
