"""Checkpoints: how far a reader of the log has come, moved by compare-and-set only."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from eventstore.db import Answering, answering
from eventstore.errors import LeaseLostError, LogMismatchError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.db import Session
    from eventstore.store import Log
    from eventstore.subscriptions.leases import Lease


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

    def under(self, epoch: int) -> Checkpoint:
        """Return the same place, written under another epoch."""
        return replace(self, epoch=epoch)


START = Checkpoint()


class Checkpoints:
    """The checkpoints of a store, on a pool or inside a transaction.

    Args:
        session: Where the queries run; a projection passes the transaction that changes its read model.
    """

    def __init__(self, session: Session) -> None:
        self._session = Answering(session)

    async def load(self, name: str) -> Checkpoint:
        """Return a reader's checkpoint; the start of the log when it has none."""
        row = await self._session.fetchrow("load_checkpoint", name)
        return Checkpoint(*row) if row else START

    async def advance(self, name: str, *, since: Checkpoint, to: Checkpoint) -> None:
        """Move a checkpoint on from where this reader left it.

        Raises:
            LeaseLostError: Somebody else has moved it, or holds a later epoch; or the event that it is moved to is not
                on the log where it is kept, as after a failover: look again.
        """
        moved = await self._session.fetchrow(
            "save_checkpoint", name, to.position, to.event_id, to.epoch, since.position
        )
        if moved is None:
            raise LeaseLostError(name)

    async def claim(self, name: str, lease: Lease, start: Callable[[], Awaitable[Checkpoint]]) -> Checkpoint:
        """Write a reader's checkpoint under the epoch of its lease, which fences everybody older, and return it.

        Args:
            name: The reader.
            lease: Its lease.
            start: Where it begins; asked only when it has no checkpoint yet.

        Raises:
            LeaseLostError: Somebody holds a later epoch.
        """
        begin = START if await self._session.fetchrow("load_checkpoint", name) else await start()
        row = await self._session.fetchrow("claim_checkpoint", name, begin.position, begin.event_id, lease.epoch)
        if row is None:
            raise LeaseLostError(name)
        return Checkpoint(*row)

    async def move(self, name: str, to: Checkpoint) -> None:
        """Move a checkpoint that was claimed to a place that it has not passed; again to where it is, it stays.

        Raises:
            LeaseLostError: Somebody else has claimed, reset or deleted it; or as `advance`.
        """
        row = await self._session.fetchrow("move_checkpoint", name, to.position, to.event_id, to.epoch)
        if row is None:
            raise LeaseLostError(name)

    async def reset(self, name: str, to: Checkpoint) -> None:
        """Set a checkpoint anywhere; its epoch fences whoever reads there."""
        await self._session.fetchrow("reset_checkpoint", name, to.position, to.event_id, to.epoch)

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
    async with answering():
        is_there = not checkpoint.position or await log.event_at(checkpoint.position) == checkpoint.event_id
    if not is_there:
        raise LogMismatchError(
            name,
            f"its checkpoint stands at position {checkpoint.position}, but the log has not that event there any more "
            "(a failover that lost the tail, or another database?); find out, then rebuild or reset it",
        )
