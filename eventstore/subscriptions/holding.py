"""What a subscription's reader has while it has its turn: the lease, the checkpoint, and the batch ahead."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import LeaseLostError, TransactionConflictError, UnavailableError
from eventstore.subscriptions.checkpoints import Checkpoint, Checkpoints
from eventstore.subscriptions.following import LogFollower

if TYPE_CHECKING:
    from eventstore.db import Session
    from eventstore.store import Log
    from eventstore.store.log import LogRange
    from eventstore.subscriptions.following import Batch
    from eventstore.subscriptions.leases import Lease, Leases

PASSED_SECONDS: Final = 1.0
"""How long a checkpoint may stay behind events that were passed over because nobody wanted them."""


class Hold:
    """A reader's turn.

    Args:
        log: The log.
        leases: Where its lease is.
        lease: The lease, which has the reader's name and is kept from now on.
        checkpoint: Where it goes on: claimed under the lease, and on the log.
        wanted: Which events.
        batch: How many events to look at in one batch.
    """

    def __init__(
        self, log: Log, leases: Leases, lease: Lease, checkpoint: Checkpoint, *, wanted: LogRange, batch: int
    ) -> None:
        self.name = lease.name
        self.lease = lease
        self._log = log
        self._leases = leases
        self._follower = LogFollower(log, checkpoint.under(lease.epoch), wanted=wanted, batch=batch, name=lease.name)
        self._ahead: asyncio.Task[Batch | None] | None = None
        self.keeper = asyncio.create_task(leases.keep(lease))
        self._delivered = checkpoint  # the last event of what the caller has in hand, or has done with
        self._committed = checkpoint
        self._provisional: Any = None  # the caller's transaction that moved the checkpoint last
        self._passed: Checkpoint | None = None
        self._pass_at = 0.0

    def require(self) -> None:
        """Check that the lease is ours still, as far as is known here.

        Raises:
            LeaseLostError: It was lost.
        """
        if self.keeper.done():
            raise LeaseLostError(self.name)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def next_batch(self) -> Batch | None:
        """Return the next batch if there is one: the one that was asked for, or one that is asked for now.

        Who stops waiting loses nothing: what was asked for is there the next time.

        Raises:
            LeaseLostError: The lease was lost, before or meanwhile.
        """
        if self._ahead is None:
            self._ahead = asyncio.create_task(self._follower.next_now())
        await asyncio.wait((self._ahead, self.keeper), return_when=asyncio.FIRST_COMPLETED)
        self.require()
        asked, self._ahead = self._ahead, None
        return asked.result()

    def deliver(self, batch: Batch) -> None:
        """Note that a batch goes into the caller's hands, and ask for the one behind it: one ahead, and no more."""
        self._delivered = batch.checkpoint
        self._passed = None
        if self._log.reads_ahead:
            self._ahead = asyncio.create_task(self._follower.next_now())

    # --- the checkpoint ----------------------------------------------------------------------------------------------

    async def commit(self, to: Checkpoint, session: Session, *, provisional: bool) -> None:
        """Move the checkpoint to the end of what the caller has done.

        Args:
            to: Where.
            session: The caller's transaction, or none in particular.
            provisional: Whether that can still be rolled back.

        Raises:
            LeaseLostError: Somebody else reads now.
        """
        self.require()
        await Checkpoints(session).move(self.name, to)
        self._committed = to
        self._provisional = session if provisional else None

    def pass_over(self, to: Checkpoint) -> bool:
        """Note that events which nobody wants were passed over; returns whether the caller has nothing in hand."""
        if self._passed is None:
            self._pass_at = asyncio.get_running_loop().time() + PASSED_SECONDS
        self._passed = to
        return self._committed == self._delivered

    async def settle(self, *, now: bool = False) -> None:
        """Move the checkpoint over what was passed over, if that has waited long enough and all before it is done."""
        if self._passed is None or self._committed != self._delivered:
            return
        is_due = now or asyncio.get_running_loop().time() >= self._pass_at
        if not is_due or (self._provisional is not None and self._provisional.is_open):
            return
        passed, self._passed = self._passed, None
        # By compare-and-set on the position: the caller's transaction may have been rolled back.
        since = self._committed.under(self.lease.epoch)
        with suppress(LeaseLostError):
            await Checkpoints(self._log.session).advance(self.name, since=since, to=passed)
            self._delivered = self._committed = passed
            self._provisional = None

    async def end(self) -> None:
        """End the turn, and let the next reader have it."""
        tasks = [task for task in (self._ahead, self.keeper) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        with suppress(UnavailableError, TransactionConflictError, LeaseLostError):  # it is passed over again then
            await self.settle(now=True)
        await self._leases.release_quietly(self.lease)
