"""Checkpoints: how far a reader of the log has come, moved by compare-and-set only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstore.errors import LeaseLostError, LogMismatchError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.db import Session
    from eventstore.store import Log


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A place in the log that a reader has come to: always an event that was read, wanted or not.

    Never the sequence's value or the high-water mark: after a crash a sequence can step back to numbers that were
    drawn and never committed.

    Attributes:
        position: The position of the last event that was read; 0 for none.
        event_id: Its id, so that the checkpoint can be held against the log.
        epoch: The epoch of the lease under which it was written.
    """

    position: int = 0
    event_id: UUID | None = None
    epoch: int = 0


START = Checkpoint()


class Checkpoints:
    """The checkpoints of a store, on a pool or inside a transaction.

    Args:
        session: Where the queries run; a projection passes the transaction that changes its read model.
    """

    def __init__(self, session: Session) -> None:
        self._session = session

    async def load(self, name: str) -> Checkpoint:
        """Return a reader's checkpoint; the start of the log when it has none."""
        row = await self._session.fetchrow("load_checkpoint", name)
        return Checkpoint(*row) if row else START

    async def advance(self, name: str, *, since: Checkpoint, to: Checkpoint) -> None:
        """Move a checkpoint on from where this reader left it.

        Raises:
            LeaseLostError: Somebody else has moved it, or holds a later epoch.
        """
        moved = await self._session.fetchrow(
            "save_checkpoint", name, to.position, to.event_id, to.epoch, since.position
        )
        if moved is None:
            raise LeaseLostError(name)

    async def rename(self, name: str, to: str) -> None:
        """Give a checkpoint another name, in place of the one that has it now."""
        await self.delete(to)
        await self._session.fetch("rename_checkpoint", name, to)

    async def delete(self, name: str) -> None:
        """Forget how far a reader has come."""
        await self._session.fetch("delete_checkpoint", name)

    async def list(self) -> list[tuple[str, Checkpoint, datetime]]:
        """Return all readers, how far they have come, and when they got there."""
        return [
            (name, Checkpoint(position, event_id, epoch), updated_at)
            for name, position, event_id, epoch, updated_at in await self._session.fetch("list_checkpoints")
        ]


async def require_on_log(log: Log, name: str, checkpoint: Checkpoint) -> None:
    """Check that the event a checkpoint was made at is in the log still.

    Raises:
        LogMismatchError: It is not: the log lost its tail (a failover?), or this is another database.
    """
    if checkpoint.position and await log.event_at(checkpoint.position) != checkpoint.event_id:
        raise LogMismatchError(
            name,
            f"its checkpoint stands at position {checkpoint.position}, but the log has not that event there any more "
            "(a failover that lost the tail, or another database?); find out, then rebuild or reset it",
        )
