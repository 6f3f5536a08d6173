"""Rebuilding a read model from the beginning of the log, beside the one in use, and then taking its place.

    fill `<schema>_rebuild` from position 0 -> lock the read model (its worker waits) -> apply what is left
        -> swap the schemas and the checkpoint in the same transaction -> drop the old tables

Readers see the old tables until the swap, and the worker goes on behind the new ones. Tables that the user's own
migrations made cannot be doubled: they are emptied, and filled again in place, while their workers stand by. A rebuild
of those that is cut off leaves them filled up to its checkpoint: repeat it, or let the worker go on.

The projection's failure policy holds for a rebuild as well: it stops, or parks streams of its own. Those that were
parked behind the old tables are forgotten with them, and what was discarded is tried again: a rebuild is a clean fold.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from eventstore.db.errors import translated
from eventstore.db.queries import quoted
from eventstore.errors import ConfigurationError
from eventstore.projections.applying import ProjectionRunner
from eventstore.projections.feeds import forget_kafka, log_lease
from eventstore.projections.parking import ParkedStreams
from eventstore.projections.persevering import Perseverance
from eventstore.projections.read_model import ReadModel
from eventstore.projections.stretches import LogStretch
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoint, Checkpoints, Leases

if TYPE_CHECKING:
    from eventstore.db.database import ConnectionSession
    from eventstore.projections.projection import Projection
    from eventstore.store import EventStore

Report = Callable[[int, int], None]
"""Hears how many events have been applied and how many positions are left."""

_BATCH = 1000


async def rebuild(store: EventStore, projection: Projection, *, report: Report | None = None) -> int:
    """Build a projection's read model anew from the whole log; returns how many events it was built from.

    Args:
        store: The store.
        projection: Which read model.
        report: Hears of the progress.

    Raises:
        ProjectionFailedError: A handler failed, and the policy is to stop; the read model in use stays as it is
            (tables of the user's own stay before that event).
        TooManyParkedStreamsError: More streams would be held back than the policy allows; the same.
        LeaseLostError: Somebody else has begun to rebuild the same tables of the user's own.
        ConfigurationError: It is an inline projection on tables of the user's own.
    """
    return await _Rebuild(store, projection, report or (lambda _done, _left: None)).run()


class _Rebuild:
    def __init__(self, store: EventStore, projection: Projection, report: Report) -> None:
        self._store = store
        self._projection = projection
        self._report = report
        schema = store.database.schema
        self._current = ReadModel(projection, store_schema=schema)
        self._next = ReadModel(projection, store_schema=schema, rebuild=True)
        self._applied = 0

    async def run(self) -> int:
        database = self._store.database
        await self._current.ensure(database)
        async with Leases(database).holding(f"rebuild:{self._projection.consumer_name}"):
            if self._projection.schema is None:
                return await self._empty_and_refill()
            await self._forget_attempts()
            runner = ProjectionRunner(self._store, self._projection, read_model=self._next, rebuilding=True)
            async with runner.opened():
                checkpoint = await self._catch_up(runner, Checkpoint(), await self._store.log.high_water())
                checkpoint = await self._catch_up(runner, checkpoint, await self._store.log.high_water())
                await self._take_over(runner, checkpoint)
            await self._forget_attempts()
            return self._applied

    async def _catch_up(self, runner: ProjectionRunner, checkpoint: Checkpoint, mark: int) -> Checkpoint:
        """Apply what lies between a checkpoint and a mark; what is appended meanwhile is not chased."""
        wanted = LogRange(self._projection.categories, runner.event_types)
        perseverance: Perseverance[LogStretch] = Perseverance(runner, None)
        while True:
            page = await self._store.log.read_all(wanted, checkpoint.position, mark, _BATCH)
            if page.last_position is None:
                return checkpoint
            to = Checkpoint(page.last_position, page.last_event_id, checkpoint.epoch)
            await perseverance.apply(LogStretch(runner.read_model.name, page.events, checkpoint, to, _BATCH))
            checkpoint = to
            self._applied += len(page.events)
            self._report(self._applied, mark - to.position)

    async def _take_over(self, runner: ProjectionRunner, checkpoint: Checkpoint) -> None:
        """Put the new tables in place of the current ones, while the worker behind them waits."""
        name, database = self._projection.consumer_name, self._store.database
        schema = quoted(f"{self._current.schema}")
        async with database.transaction() as session:
            mark = await self._hold_the_others(session)
            checkpoint = await self._catch_up(runner, checkpoint, mark)  # so that the read model does not step back
            with translated(database.schema):
                await session.connection.execute(f"ALTER SCHEMA {schema} RENAME TO {quoted(self._old_schema)}")
                await session.connection.execute(f"ALTER SCHEMA {quoted(f'{self._next.schema}')} RENAME TO {schema}")
            if not self._projection.inline:
                await Checkpoints(session).rename(self._next.name, name)
                await ParkedStreams(session, self._next.name).rename(name)
                if not checkpoint.position:
                    await forget_kafka(session, name)  # with a checkpoint, Kafka finds out from it what is built in

    async def _hold_the_others(self, session: ConnectionSession) -> int:
        """Let nobody change the current tables until the transaction ends; return up to where they have come.

        Behind an inline projection every appender is a worker: they have to wait, and once the lock is ours, all that
        was ever drawn is committed or gone. The high-water mark would be too low, because those that wait for us may
        have announced themselves already.
        """
        if self._projection.inline:
            await session.fetch("hold_appenders")
            await self._current.note_replaced(session)
            return await self._store.log.last_drawn()
        await self._current.note_replaced(session)
        return await self._store.log.high_water()

    async def _empty_and_refill(self) -> int:
        """Empty tables that the user's own migrations made, and fill them again; their workers stand by meanwhile."""
        if self._projection.inline:
            raise ConfigurationError(
                f"the inline projection {self._projection.name!r} keeps tables of your own, which every append writes: "
                "stop the service, and fill them again by a migration of yours"
            )
        name, database = self._projection.consumer_name, self._store.database
        # The lease is taken from a worker that follows the log, and kept from Kafka: they go on where this ends.
        async with Leases(database).holding(log_lease(name), seize=True) as lease:
            async with database.transaction() as session:
                await self._current.note_replaced(session)
                with translated(database.schema):
                    for table in self._projection.tables:
                        await session.connection.execute(f"TRUNCATE {table}")
                await Checkpoints(session).delete(name)
                await ParkedStreams(session, name).release_all()
                await forget_kafka(session, name)
            runner = ProjectionRunner(self._store, self._projection, rebuilding=True)
            async with runner.opened():
                await self._catch_up(runner, Checkpoint(epoch=lease.epoch), await self._store.log.high_water())
        return self._applied

    @property
    def _old_schema(self) -> str:
        return f"{self._current.schema}_old"

    async def _forget_attempts(self) -> None:
        """Drop what this or an earlier rebuild has left: half-filled tables, replaced ones, a checkpoint."""
        database = self._store.database
        async with database.transaction() as session:
            await session.fetch("delete_read_model", self._next.name)
            await Checkpoints(session).delete(self._next.name)
            await ParkedStreams(session, self._next.name).release_all()
            with translated(database.schema):
                for schema in (f"{self._next.schema}", self._old_schema):
                    await session.connection.execute(f"DROP SCHEMA IF EXISTS {quoted(schema)} CASCADE")
