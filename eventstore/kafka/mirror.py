"""The mirror: the cursor once more, in PostgreSQL, where health and people look; and the proof that Kafka lost nothing.

It moves after the cursor, never before, and never holds publishing up: while one move is under way the next ones are
gathered into one. So a mirror that is ahead of the cursor means that Kafka has lost what was published.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eventstore.errors import LogMismatchError
from eventstore.kafka.answers import closed

if TYPE_CHECKING:
    from eventstore.subscriptions import Checkpoint, Checkpoints


class Mirror:
    """The mirror of one publisher, under one lease.

    Args:
        checkpoints: Where it is kept.
        name: Its name there.
        found: Where it stood when the lease was taken, read before the fencing: nobody older moves it afterwards.
    """

    def __init__(self, checkpoints: Checkpoints, name: str, found: Checkpoint) -> None:
        self._checkpoints = checkpoints
        self._name = name
        self._written = found
        self._latest = found
        self._changed = asyncio.Event()

    def require_not_ahead_of(self, cursor: Checkpoint) -> None:
        """Check that the mirror fits the cursor.

        Raises:
            LogMismatchError: It does not: what was published is no longer there.
        """
        found = self._written
        if found.position > cursor.position:
            raise LogMismatchError(
                self._name,
                f"Kafka's cursor stands at position {cursor.position}, but position {found.position} was published "
                "already: Kafka has lost records (or this is another cluster); publish everything again under another "
                "name, or restore the topics",
            )
        if found.position == cursor.position and found.event_id != cursor.event_id:
            raise LogMismatchError(
                self._name, f"Kafka's cursor names another event at position {cursor.position} than its mirror does"
            )

    def note(self, cursor: Checkpoint) -> None:
        """Note that the cursor was committed; `keep` writes it."""
        self._latest = cursor
        self._changed.set()

    async def keep(self) -> None:
        """Write what is noted, for ever.

        Raises:
            LeaseLostError: Somebody else has moved it.
            UnavailableError: PostgreSQL cannot be reached.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            await self.write()

    async def write(self) -> None:
        """Write what was noted last."""
        latest = self._latest
        if latest != self._written:
            await self._checkpoints.advance(self._name, since=self._written, to=latest)
            self._written = latest

    async def settle(self) -> None:
        """Write what was noted last, on the way out; an error does not matter, the next start repairs it."""
        await closed(self.write())
