"""A projection catching up from the log, beside a loop written by hand."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Final

from benchmarks import loops, ours, raw, workers
from benchmarks.filling import PER_STREAM, copy_streams
from benchmarks.results import OURS, Row
from eventstore.lifecycle import running
from eventstore.projections import ProjectionWorker

if TYPE_CHECKING:
    import asyncpg

    from benchmarks.context import Context
    from benchmarks.rounds import Subject
    from eventstore import EventStore

LOOP: Final = f"asyncpg, fetch {raw.PAGE:,} and executemany"


async def measure(context: Context) -> Row:
    """Measure how fast a new projection catches up; each round into tables that are new."""
    events = context.sizes.projected
    row = Row(
        "project", f"a projection catches up on {events:,} events from the log", "events/s", lower_is_better=False
    )
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        await copy_streams(dsn, events)
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(dsn, 1))
        await context.run(row, {OURS: _projecting(store, events), LOOP: _looping(pool, events)})
    row.compare(f"over {LOOP}", "fetch and executemany", OURS, LOOP, at_least=0.5)
    row.notes.append(
        f"One row is upserted for each event, with {PER_STREAM} events to a row. The framework decodes each event, and "
        "moves its checkpoint in the transaction of each batch; the loop validates the payloads, has one transaction a "
        "page, and no checkpoint. Making the tables counts for neither."
    )
    return row


def _projecting(store: EventStore, events: int) -> Subject:
    numbers = count()

    async def subject() -> float:
        worker = ProjectionWorker(store, workers.balances(f"balances{next(numbers)}"))
        progress, last = worker.progress, await store.log.high_water()
        async with running(worker.run()):
            await progress.until(lambda: progress.state == "working")
            began = time.perf_counter()
            await progress.until(lambda: progress.position >= last)
            took = time.perf_counter() - began
        assert progress.events == events, progress.events  # noqa: S101 - one that skips is none
        return events / took

    return subject


def _looping(pool: asyncpg.Pool, events: int) -> Subject:
    async def subject() -> float:
        await pool.execute(f"DROP TABLE IF EXISTS balances; {loops.BALANCES}")
        began = time.perf_counter()
        assert await loops.project(pool, events) == events  # noqa: S101 - the same
        return events / (time.perf_counter() - began)

    return subject
