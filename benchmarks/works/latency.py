"""One append after the other, by one caller."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks import ours, raw
from benchmarks.racing import race
from benchmarks.results import OURS, Row

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.context import Context
    from benchmarks.racing import AsyncStep
    from benchmarks.rounds import Subject

TRANSACTION = "asyncpg, INSERT inside BEGIN/COMMIT"


async def measure(context: Context) -> Row:
    """Measure the median latency of an append against raw INSERT, inside BEGIN and COMMIT and without."""
    row = Row("latency", "one caller, latency p50 of one append", "µs", lower_is_better=True)

    def p50(make: Callable[[int], AsyncStep]) -> Subject:
        async def subject() -> float:
            return median((await race(1, context.sizes.seconds, make, timed=True)).durations) * 1e6

        return subject

    async with (
        context.databases.fresh() as dsn,
        context.databases.fresh() as raw_dsn,
        ours.opened(dsn) as store,
        raw.pool(raw_dsn, 1) as pool,
    ):
        subjects = {
            OURS: p50(ours.appender(store)),
            TRANSACTION: p50(raw.transactional_appender(pool)),
            "asyncpg, INSERT alone": p50(raw.appender(pool)),
        }
        await context.run(row, subjects)
    row.compare(f"of {TRANSACTION}", "raw BEGIN, INSERT, COMMIT", OURS, TRANSACTION, at_most=1.0)
    return row
