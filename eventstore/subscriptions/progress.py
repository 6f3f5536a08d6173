"""Progress of a worker, as others in the same process see it: for progress bars, and to wait without sleeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Literal

from eventstore.errors import ClosedError
from eventstore.events import Position, position_number
from eventstore.store.log import LogRange

if TYPE_CHECKING:
    from eventstore.store import Log

State = Literal["waiting", "starting", "working", "stopped"]
"""`waiting`: for its turn, or backing off after an error; also before `run()`."""

_STRETCH: Final = 10_000


class Progress:
    """What a worker notes about itself.

    Args:
        what: The worker, for error messages.

    Attributes:
        position: The last position it has done with.
        events: How many events it has handled since it started.
        state: What it is doing.
    """

    def __init__(self, what: str) -> None:
        self.position = 0
        self.events = 0
        self.state: State = "waiting"
        self._what = what
        self._moved = asyncio.Event()
        self._failure: Exception | None = None

    # --- the worker's side ---------------------------------------------------------------------------------------

    def reached(self, position: int, *, events: int = 0) -> None:
        """Note where the worker is, and wake whoever waits."""
        self.position = position
        self.events += events
        self._moved.set()
        self._moved = asyncio.Event()

    def enter(self, state: State) -> None:
        """Note a state, and let everybody who waits look again."""
        self.state = state
        self.reached(self.position)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be running for the length of the block; when it ends, nobody waits in vain."""
        self._failure = None
        self.enter("waiting")
        try:
            yield
        except Exception as error:
            self._failure = error
            raise
        finally:
            self.enter("stopped")

    # --- the others' side ----------------------------------------------------------------------------------------

    async def wait_for(self, position: Position) -> None:
        """Return once the worker has done with a position, such as that of an append's result.

        Raises:
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        await self.until(lambda: self.position >= position_number(position))

    async def caught_up(self, log: Log) -> None:
        """Return once the worker has done with everything that is settled in the log now.

        Raises:
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        mark = await log.high_water()
        while True:
            # Positions have gaps, so the mark itself may never be reached: look for events up to it, wanting none.
            rest = await log.read_all(LogRange(categories=()), self.position, mark, _STRETCH)
            if rest.last_position is None:
                return
            await self.wait_for(Position(rest.last_position))

    async def until(self, reached: Callable[[], bool]) -> None:
        """Return once something is so; asked again whenever the worker has moved.

        Raises:
            EventStoreError: What the worker failed with.
            ClosedError: The worker was stopped.
        """
        while not reached():
            if self.state == "stopped":
                raise self._failure or ClosedError(self._what)
            await self._moved.wait()
