"""The stages, side by side on one store: commands, and the workers behind the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from examples.loans.commands import Commands
from examples.loans.read_models import loans, read_figures
from examples.loans.screen import Stage, bars

if TYPE_CHECKING:
    from rich.console import Console

    from eventstore import Application, EventStore
    from eventstore.runtime.workers import Worker, Workers
    from examples.loans.figures import Figures
    from examples.loans.rows import Row


async def run_through(
    console: Console, app: Application, store: EventStore, rows: Sequence[Row], *, kafka: str | None
) -> tuple[list[Stage], Figures]:
    """Run the rows, wait until every worker has seen the last event; return the stages and the read models' figures."""
    commands = Commands(store, rows)
    await commands.find()
    if commands.found:
        rest = "the rest follows" if commands.found < len(rows) else "there is nothing left to do"
        console.print(f"{commands.found:,} of {len(rows):,} rows were already there: {rest}.", highlight=False)
    async with app.workers(store, kafka=kafka) as workers:
        stages = await _run_side_by_side(console, store, commands, _followers(workers, kafka), len(rows))
    async with store.transaction() as tx:
        return stages, await read_figures(tx.connection)


def _followers(workers: Workers, kafka: str | None) -> dict[str, Worker]:
    if kafka is None:
        return {"Snapshots taken": workers["snapshots"], "Projected from the log": workers[loans.name]}
    return {
        "Snapshots taken": workers["snapshots"],
        "Published to Kafka": workers["applications"],
        "Projected from Kafka": workers[loans.name],
    }


async def _run_side_by_side(
    console: Console, store: EventStore, commands: Commands, followers: dict[str, Worker], rows: int
) -> list[Stage]:
    deciding = Stage("Commands", rows, reached=lambda: commands.found + commands.done, handled=lambda: commands.done)
    following = [_following(name, rows, worker) for name, worker in followers.items()]

    async def finish(stage: Stage, worker: Worker) -> None:
        await worker.progress.caught_up(store.log)
        stage.finish()

    async with bars(console, [deciding, *following]):
        await commands.run()
        deciding.finish()
        async with asyncio.TaskGroup() as group:
            for stage, worker in zip(following, followers.values(), strict=True):
                group.create_task(finish(stage, worker))
    return [deciding, *following]


def _following(name: str, rows: int, worker: Worker) -> Stage:
    """Return the stage of a worker. Positions count the log's events, gaps apart, so they tell how far it is."""
    return Stage(name, rows, reached=lambda: worker.progress.position, handled=lambda: worker.progress.events)
