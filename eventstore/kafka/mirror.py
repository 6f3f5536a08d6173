"""The mirror: the cursor once more, in PostgreSQL, where health and people look; and the proof that Kafka lost nothing.

The parked streams are copied with it, for people alone: nothing is ever decided by that copy.

It moves after the cursor, never before, and never holds publishing up: what is committed during a move, and a moment
longer, is gathered into the next one. So a mirror that is ahead of the cursor means that Kafka has lost what was
published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import LeaseLostError, LogMismatchError
from eventstore.kafka.answers import CLOSE_SECONDS, closed, finished
from eventstore.subscriptions import Checkpoints

if TYPE_CHECKING:
    from eventstore.db import Database, Session
    from eventstore.kafka.cursor import Cursor, Parked
    from eventstore.outbox import Group
    from eventstore.subscriptions import Checkpoint

PAUSE: Final = 0.025
"""Seconds between two moves: under load there are a hundred transactions a second, and each move is a commit."""


class Mirror:
    """The mirror of one group, under one lease.

    Args:
        database: Where it is kept.
        group: The group.
        found: Where it stood when the lease was taken, read before the fencing: nobody older moves it afterwards.
    """

    def __init__(self, database: Database, group: Group, found: Checkpoint) -> None:
        self._database = database
        self._name = group.checkpoint_name
        self._group_name = group.name
        self._written = found
        self._written_parked: Mapping[str, Parked] | None = None  # unknown: the copy may be of another time
        self._latest: Cursor | None = None
        self._changed = asyncio.Event()

    @classmethod
    async def found(cls, database: Database, group: Group) -> Mirror:
        """Return the mirror as it is now."""
        return cls(database, group, await Checkpoints(database).load(group.checkpoint_name))

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

    def note(self, cursor: Cursor) -> None:
        """Note that the cursor was committed; `keep` writes it."""
        self._latest = cursor
        self._changed.set()

    async def keep(self) -> None:
        """Write what is noted, for ever; a cancel lets the move under way finish, or nobody knew from where to go on.

        Raises:
            LeaseLostError: Somebody else has moved it.
            UnavailableError: PostgreSQL cannot be reached.
        """
        while True:
            await self._changed.wait()
            self._changed.clear()
            await finished(self.write(), CLOSE_SECONDS)
            await asyncio.sleep(PAUSE)

    async def write(self) -> None:
        """Write what was noted last."""
        latest = self._latest
        if latest is None:
            return
        if latest.parked != self._written_parked:
            await self._write_with_parked(latest)
        elif latest.checkpoint != self._written:
            await Checkpoints(self._database).advance(self._name, since=self._written, to=latest.checkpoint)
        self._written = latest.checkpoint

    async def _write_with_parked(self, latest: Cursor) -> None:
        to, since = latest.checkpoint, self._written
        if not to.position:
            await write_parked(self._database, self._group_name, latest.parked)
        elif (
            await self._database.fetchrow(
                "save_mirror",
                *(self._name, to.position, to.event_id, to.epoch, since.position),
                *(self._group_name, *_columns(latest.parked)),
            )
            is None
        ):
            raise LeaseLostError(self._name)
        self._written_parked = latest.parked

    async def settle(self) -> None:
        """Write what was noted last, on the way out; an error does not matter, the next start repairs it."""
        await closed(self.write())


async def write_parked(session: Session, name: str, parked: Mapping[str, Parked]) -> None:
    """Let the copy of what a group holds back be this."""
    await session.fetch("note_parked", name, *_columns(parked))


def _columns(parked: Mapping[str, Parked]) -> list[list[Any]]:
    held = parked.values()
    return [
        list(parked),
        [one.position for one in held],
        [one.stream_version for one in held],
        [one.reason for one in held],
        [datetime.fromisoformat(one.since) for one in held],
    ]
