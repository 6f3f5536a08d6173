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

from collections.abc import Callable, Sequence
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
from eventstore.store.log import LogRange, Mark, NotOnLogError
from eventstore.store.postgres import PostgresLog
from eventstore.store.reading import PageSize
from eventstore.subscriptions import Checkpoint, Checkpoints, Leases, LogFollower
from eventstore.subscriptions.checkpoints import require_on_log

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
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
                checkpoint = await self._catch_up(runner, Checkpoint())
                checkpoint = await self._catch_up(runner, checkpoint)
                await self._take_over(runner, checkpoint)
            await self._forget_attempts()
            return self._applied

    async def _catch_up(self, runner: ProjectionRunner, checkpoint: Checkpoint) -> Checkpoint:
        """Apply what is settled now behind a checkpoint; what is appended meanwhile is not chased.

        Raises:
            LogMismatchError: The log has lost what was applied: another server answers.
        """
        mark = await self._store.log.high_water()
        follower = LogFollower(
            self._store.log, checkpoint, wanted=self._wanted(runner), batch=_BATCH, name=runner.read_model.name
        )
        while checkpoint.position < mark and (batch := await follower.next_now()) is not None:
            checkpoint = await self._apply(runner, batch.events, checkpoint, batch.checkpoint, mark)
        return checkpoint

    async def _apply_the_rest(
        self, runner: ProjectionRunner, checkpoint: Checkpoint, session: ConnectionSession
    ) -> Checkpoint:
        """Apply what was ever drawn behind a checkpoint, while nobody can append.

        It is read in the transaction that keeps the appenders out: no other server can answer there.
        """
        log, size = PostgresLog(session), PageSize(_BATCH)
        drawn = await log.last_drawn()
        while True:
            row = await session.fetchrow("server_run")
            mark = Mark(drawn, row[0] if row else None)
            try:
                page = await log.read_on(
                    self._wanted(runner), checkpoint.position, checkpoint.event_id, mark, size.rows
                )
            except NotOnLogError:  # unless the server has only noted a checkpoint of its own meanwhile
                await require_on_log(log, runner.read_model.name, checkpoint)
                continue
            if page.last_position is None:
                return checkpoint
            size.learn(page.events)
            to = Checkpoint(page.last_position, page.last_event_id, checkpoint.epoch)
            checkpoint = await self._apply(runner, page.events, checkpoint, to, drawn)

    async def _apply(
        self, runner: ProjectionRunner, events: Sequence[StoredEvent], since: Checkpoint, to: Checkpoint, mark: int
    ) -> Checkpoint:
        perseverance: Perseverance[LogStretch] = Perseverance(runner, None)
        await perseverance.apply(LogStretch(runner.read_model.name, events, since, to, _BATCH))
        self._applied += len(events)
        self._report(self._applied, max(0, mark - to.position))
        return to

    def _wanted(self, runner: ProjectionRunner) -> LogRange:
        return LogRange(self._projection.categories, runner.event_types)

    async def _take_over(self, runner: ProjectionRunner, checkpoint: Checkpoint) -> None:
        """Put the new tables in place of the current ones, while the worker behind them waits."""
        name, database = self._projection.consumer_name, self._store.database
        schema = quoted(f"{self._current.schema}")
        async with database.transaction() as session:
            checkpoint = await self._catch_up_alone(runner, checkpoint, session)  # so that it does not step back
            with translated(database.schema):
                await session.connection.execute(f"ALTER SCHEMA {schema} RENAME TO {quoted(self._old_schema)}")
                await session.connection.execute(f"ALTER SCHEMA {quoted(f'{self._next.schema}')} RENAME TO {schema}")
            if not self._projection.inline:
                await Checkpoints(session).rename(self._next.name, name)
                await ParkedStreams(session, self._next.name).rename(name)
                if not checkpoint.position:
                    await forget_kafka(session, name)  # with a checkpoint, Kafka finds out from it what is built in

    async def _catch_up_alone(
        self, runner: ProjectionRunner, checkpoint: Checkpoint, session: ConnectionSession
    ) -> Checkpoint:
        """Let nobody change the current tables until the transaction ends, and come as far as they have.

        Behind an inline projection every appender is a worker: they have to wait, and once the lock is ours, all that
        was ever drawn is committed or gone. The high-water mark would be too low, because those that wait for us may
        have announced themselves already.
        """
        if self._projection.inline:
            await session.fetch("hold_appenders")
        await self._current.note_replaced(session)
        if self._projection.inline:
            return await self._apply_the_rest(runner, checkpoint, session)
        return await self._catch_up(runner, checkpoint)

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
                await self._catch_up(runner, Checkpoint(epoch=lease.epoch))
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
