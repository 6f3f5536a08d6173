"""One stream that grows beside an old snapshot, which keeps VACUUM from cleaning up anything."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import asyncpg

from benchmarks import ours
from benchmarks.domain import deposit
from benchmarks.results import Row
from eventstore.clock import uuid7

if TYPE_CHECKING:
    from benchmarks.context import Context
    from eventstore import EventStore


async def measure(context: Context) -> Row:
    """Measure the first and the last of many appends beside an open REPEATABLE READ transaction."""
    sizes = context.sizes
    row = Row(
        "old-snapshot",
        f"{sizes.many_appends:,} appends to one stream beside an open REPEATABLE READ transaction",
        "µs/append",
        lower_is_better=True,
    )
    first_name, last_name = f"the first {sizes.window:,}", f"the last {sizes.window:,}"
    first: list[float] = []
    last: list[float] = []
    async with context.databases.fresh() as dsn, ours.opened(dsn) as store:
        await _append(store, f"account-{uuid7()}", 0, sizes.window)  # warm-up
        for number in range(1, context.rounds + 1):
            context.tell(f"{row.name}, round {number} of {context.rounds}")
            stream_id = f"account-{uuid7()}"
            connection = await asyncpg.connect(dsn)
            try:
                async with connection.transaction(isolation="repeatable_read"):
                    await connection.fetchval("SELECT count(*) FROM eventstore.streams")  # takes the snapshot
                    first.append(await _append(store, stream_id, 0, sizes.window))
                    await _append(store, stream_id, sizes.window, sizes.many_appends - 2 * sizes.window)
                    last.append(await _append(store, stream_id, sizes.many_appends - sizes.window, sizes.window))
            finally:
                await connection.close()
    row.samples = {first_name: first, last_name: last}
    row.compare(f"{last_name} over {first_name}", "last over first", last_name, first_name, at_most=1.5)
    return row


async def _append(store: EventStore, stream_id: str, version: int, number: int) -> float:
    """Append one event after the other; returns the microseconds that each took."""
    began = time.perf_counter()
    for expected in range(version, version + number):
        await store.append(stream_id, [deposit(expected)], expected_version=expected)
    return (time.perf_counter() - began) / number * 1e6
