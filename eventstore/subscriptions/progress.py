"""Progress of a worker, as others in the same process see it: for progress bars, and to wait for a position."""

from __future__ import annotations

import asyncio

from eventstore.events import Position, position_number


class Progress:
    """How far a worker has come.

    Attributes:
        position: The last position it has done with.
        events: How many events it has handled since it started.
    """

    def __init__(self) -> None:
        self.position = 0
        self.events = 0
        self._moved = asyncio.Event()

    def reached(self, position: int, *, events: int = 0) -> None:
        """Note where the worker is, and wake whoever waits."""
        self.position = position
        self.events += events
        self._moved.set()
        self._moved = asyncio.Event()

    async def wait_for(self, position: Position | int) -> None:
        """Return once the worker has done with a position."""
        target = position_number(position) if isinstance(position, Position) else position
        while self.position < target:
            await self._moved.wait()
