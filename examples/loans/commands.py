"""Giving the rows to their applications: many applications at once, the rows of each one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

from eventstore import Metadata, StreamId
from eventstore.errors import EventStoreError
from examples.loans.application import LoanApplication

if TYPE_CHECKING:
    from eventstore import EventStore
    from examples.loans.rows import Row

AT_ONCE: Final = 16
"""Commands under way at the same time, each of another application."""

ATTEMPTS: Final = 10
"""How often a command is given when the database is away or somebody else came first."""


class Commands:
    """Runs rows as commands on a store, those that it has not seen yet.

    A row's step is its stream's version once it is done. So a run that was cut short, at whatever point, is simply run
    again: nothing is lost, and nothing is done twice.

    Args:
        store: The store.
        rows: The rows, in the order of their times.

    Attributes:
        found: How many rows had been done before.
        done: How many rows this run has done.
    """

    def __init__(self, store: EventStore, rows: Sequence[Row]) -> None:
        self._store = store
        self._rows = rows
        self._applications = store.repository(LoanApplication)
        self.found = 0
        self.done = 0

    async def find(self) -> None:
        """Ask the store what it has."""
        done = {
            StreamId.parse(stream.stream_id).key: stream.version
            async for stream in self._store.list_streams(category=LoanApplication.shape.category)
        }
        left = [row for row in self._rows if row.step > done.get(row.application, 0)]
        self.found = len(self._rows) - len(left)
        self._rows = left

    async def run(self) -> None:
        """Run what is left.

        Raises:
            RefusedError: The rules do not allow a row; its application's rows end there, and so does the run.
            EventStoreError: The store fails for good.
        """
        shares: list[list[Row]] = [[] for _ in range(AT_ONCE)]
        for row in self._rows:
            shares[int(row.application) % AT_ONCE].append(row)  # one worker an application keeps its rows in order
        try:
            async with asyncio.TaskGroup() as group:
                for share in shares:
                    group.create_task(self._run_in_order(share))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from None  # what stops one stops all: the first tells the story

    async def _run_in_order(self, rows: Iterable[Row]) -> None:
        for row in rows:
            await self._run_until_done(row)
            self.done += 1

    async def _run_until_done(self, row: Row) -> None:
        for left in reversed(range(ATTEMPTS)):
            try:
                await self._run(row)
            except EventStoreError as error:
                if not (error.retryable and left):
                    raise
                await asyncio.sleep(1)
            else:
                return

    async def _run(self, row: Row) -> None:
        """Load the application from its snapshot and what came after it, decide, append at the loaded version."""
        application = await self._applications.load_or_new(row.application)
        if application.version < row.step:  # else an earlier attempt had succeeded, and only its answer was lost
            row.run(application)
            await self._applications.save(application, metadata=Metadata(actor=row.resource))
