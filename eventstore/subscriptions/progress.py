"""Progress of a worker, as others in the same process see it: for progress bars, and to wait without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from eventstore.errors import ClosedError, NotCaughtUpError
from eventstore.events import Position, position_number
from eventstore.store.log import LogRange
from eventstore.subscriptions.states import ENDED, FIRST

if TYPE_CHECKING:
    from eventstore.store import Log
    from eventstore.subscriptions.states import State

_STRETCH: Final = 10_000


class Progress:
    """What a worker notes about itself.

    Args:
        what: The worker, for error messages.
        waits_for: Who else must run for it to come on, for error messages.

    Attributes:
        position: The last position it has done with.
        events: How many events it has handled since it started.
        state: What it is doing; `states.TRANSITIONS` has the ways between the states.
        failure: What it has failed with; only while it is `failed`.
    """

    def __init__(self, what: str, *, waits_for: str | None = None) -> None:
        self.position = 0
        self.events = 0
        self.state: State = FIRST
        self._what = what
        self._waits_for = waits_for
        self._moved = asyncio.Event()
        self.failure: Exception | None = None

    # --- the worker's side ---------------------------------------------------------------------------------------

    def reached(self, position: int, *, events: int = 0) -> None:
        """Note where the worker is, and wake whoever waits."""
        self.position = position
        self.events += events
        self._moved.set()
        self._moved = asyncio.Event()

    def enter(self, state: State) -> None:
        """Note a state, and let everybody who waits look again."""
        if state != "failed":
            self.failure = None  # whoever is started again ends in a new way
        self.state = state
        self.reached(self.position)

    def fail(self, failure: Exception) -> None:
        """Note what the work has ended with."""
        self.failure = failure
        self.enter("failed")

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be running for the length of the block; when it ends, nobody waits in vain."""
        self.enter("waiting")
        try:
            yield
        except Exception as error:
            self.fail(error)
            raise
        finally:
            if self.failure is None:
                self.enter("stopped")

    # --- the others' side ----------------------------------------------------------------------------------------

    async def wait_for(self, position: Position, *, within: float | None = None) -> None:
        """Return once the worker has done with a position, such as that of an append's result.

        Args:
            position: The position.
            within: How many seconds to wait; for ever when left out, which it takes if the worker never gets its turn,
                or is fed by a publisher that does not run.

        Raises:
            NotCaughtUpError: It took longer; the worker goes on.
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        await self.until(lambda: self.position >= position_number(position), within=within)

    async def caught_up(self, log: Log, *, within: float | None = None) -> None:
        """Return once the worker has done with everything that is settled in the log now.

        Args:
            log: The log.
            within: How many seconds to wait, as in `wait_for`.

        Raises:
            NotCaughtUpError: It took longer; the worker goes on.
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        async with self._bounded(within):
            mark = await log.high_water()
            while True:
                # Positions have gaps, so the mark itself may never be reached: look for events up to it, wanting none.
                rest = await log.read_all(LogRange(categories=()), self.position, mark, _STRETCH)
                if rest.last_position is None:
                    return
                await self.wait_for(Position(rest.last_position))

    async def until(self, reached: Callable[[], bool], *, within: float | None = None) -> None:
        """Return once something is so; asked again whenever the worker has moved.

        Args:
            reached: Whether it is so.
            within: How many seconds to wait, as in `wait_for`.

        Raises:
            NotCaughtUpError: It took longer; the worker goes on.
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        async with self._bounded(within):
            while not reached():
                if self.state in ENDED:
                    raise self.failure or ClosedError(self._what)
                await self._moved.wait()

    @asynccontextmanager
    async def _bounded(self, within: float | None) -> AsyncIterator[None]:
        bound = asyncio.timeout(within)
        try:
            async with bound:
                yield
        except TimeoutError:
            if within is None or not bound.expired():
                raise  # somebody else's
            raise NotCaughtUpError(self._what, self.position, self.state, within, self._waits_for) from None
