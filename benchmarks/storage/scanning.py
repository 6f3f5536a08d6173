"""Reading a whole table on the server, so that neither the driver nor the network counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Run
    from benchmarks.storage.variants import Made


def scanning(run: Run, one: Made, what: str) -> Subject:
    """Return the subject that reads `what` of every row, by one process; the figure is microseconds an event."""
    query = f"SELECT {what} FROM {one.table}"  # noqa: S608 - our own names

    async def subject() -> float:
        costs = await run.costs("SET max_parallel_workers_per_gather = 0", query)
        await run.connection.execute("RESET max_parallel_workers_per_gather")
        return costs.seconds / one.rows.events * 1e6

    return subject
