"""A subscription as its reader sees it: batches to iterate over, each of which is committed when its work is done.

The states, and the ways between them, are in `states.py`, and drawn in `docs/design/subscriptions.md`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from eventstore.errors import (
    ClosedError,
    InvalidArgumentError,
    LeaseLostError,
    TransactionConflictError,
    UnavailableError,
)
from eventstore.events import Position, position_number
from eventstore.lifecycle import Backoff
from eventstore.store.reading import SLICE
from eventstore.streams import checked_text
from eventstore.subscriptions.checkpoints import Checkpoint, Checkpoints, require_on_log
from eventstore.subscriptions.following import Polling
from eventstore.subscriptions.holding import Hold
from eventstore.subscriptions.leases import LEASE_SECONDS, Leases, new_owner
from eventstore.subscriptions.progress import Progress
from eventstore.subscriptions.reporting import reporting
from eventstore.subscriptions.starting import Start, checked_start, place_of

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from eventstore.events import RecordedEvent
    from eventstore.store import Log
    from eventstore.store.transaction import Transaction
    from eventstore.subscriptions.following import Batch
    from eventstore.subscriptions.interest import Interest
    from eventstore.subscriptions.states import State

T = TypeVar("T")

log = logging.getLogger(__name__)

SUBSCRIPTION_BATCH: Final = 500
"""Events looked at in one batch."""

_PASSING: Final = (UnavailableError, LeaseLostError, TransactionConflictError)


def subscription_checkpoint(name: str) -> str:
    """Return the name of a subscription's checkpoint and lease."""
    return f"subscription:{checked_text('a subscription', name)}"


class EventBatch(Generic[T]):
    """Events that a subscription has in hand, in the order of the log: never none, all of them wanted.

    They are decoded as they are iterated over, some at a time, and anew each time: keep `list(batch)` if you need them
    twice.
    """

    def __init__(
        self, reader: SubscriptionReader[T], hold: Hold, batch: Batch, first: Sequence[RecordedEvent[Any]], start: int
    ) -> None:
        self._reader = reader
        self._hold = hold
        self._batch = batch
        self._first = first
        self._start = start

    @property
    def position(self) -> Position:
        """The place in the log that the subscription has come to once the batch is committed."""
        return Position(self._batch.checkpoint.position)

    def __iter__(self) -> Iterator[RecordedEvent[T]]:
        yield from self._first
        for events in self._reader.interest.slices(self._batch.events, self._start):
            yield from events

    async def commit(self, tx: Transaction | None = None) -> None:
        """Note that the batch, and all before it, is done: it does not come again.

        Args:
            tx: A transaction of the store. The checkpoint then commits with what else is written in it, or not at all,
                so that each event takes effect exactly once. Left out: at once, and after a crash the events since the
                last commit come again.

        Raises:
            LeaseLostError: Another reader has taken over, and has this batch or what follows the last commit; with
                `tx`, let the error roll it back. The next batch waits for the turn.
        """
        await self._reader.commit(self._hold, self._batch.checkpoint, tx, events=len(self._batch.events))

    async def commit_up_to(self, event: RecordedEvent[T]) -> None:
        """Note that the batch is done up to an event."""
        checkpoint = Checkpoint(position_number(event.position), event.event_id, self._hold.lease.epoch)
        await self._reader.commit(self._hold, checkpoint, None, events=1)

    def __repr__(self) -> str:
        return f"EventBatch(position={self.position})"


class SubscriptionReader(Generic[T]):
    """A named, durable reader of the log, made by `EventStore.subscription`.

    One reader of a name has its turn at a time, by lease; others wait. It begins at its start when the name has no
    checkpoint yet, and at its checkpoint ever after. Back-pressure is the loop itself: one batch is in hand, and one at
    most is fetched ahead.

    Example:
        async with store.subscription("mailer", of=OrderPlaced, start=BEGINNING) as subscription:
            async for batch in subscription:
                for event in batch:
                    await send(event.data)
                await batch.commit()

    Attributes:
        name: Its name.
        progress: How far it has come: its state and position, and waiting for either.
    """

    def __init__(
        self,
        log: Log,
        name: str,
        interest: Interest,
        *,
        start: Start,
        batch: int = SUBSCRIPTION_BATCH,
        lease_seconds: float = LEASE_SECONDS,
        reports: bool = True,
    ) -> None:
        if not isinstance(batch, int) or batch < 1:
            raise InvalidArgumentError(f"batch counts from 1, not {batch!r}")
        self.name = name
        self.interest = interest
        self.checkpoint_name = subscription_checkpoint(name)
        self.progress = Progress(f"subscription {name!r}")
        self._log = log
        self._start = checked_start(start)
        self._batch = batch
        self._leases = Leases(log.session, seconds=lease_seconds)
        self._reports = reports
        self._reporting: asyncio.Task[None] | None = None
        self._hold: Hold | None = None
        self._last = Checkpoint()
        self._backoff = Backoff()
        self._polling = Polling(log.wakeup)
        self._is_open = False

    @property
    def state(self) -> State:
        """What it is doing."""
        return self.progress.state

    @property
    def position(self) -> Position:
        """The place up to which everything is done."""
        return Position(self.progress.position)

    def __repr__(self) -> str:
        return f"SubscriptionReader({self.name!r}, {self.state}, position={self.position})"

    async def __aenter__(self) -> Self:
        self._is_open = True
        self.progress.enter("waiting")
        if self._reports:
            self._reporting = asyncio.create_task(
                reporting(self._log.session, {self.checkpoint_name: self.progress}), name=f"reports of {self.name}"
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await self._end_turn()
        if isinstance(error, Exception) and self.progress.failure is None:
            self.progress.fail(error)
        elif self.progress.failure is None:
            self.progress.enter("stopped")
        if self._reporting is not None:
            self._reporting.cancel()
            await asyncio.gather(self._reporting, return_exceptions=True)

    def __aiter__(self) -> AsyncIterator[EventBatch[T]]:
        return self

    async def __anext__(self) -> EventBatch[T]:
        """Return the next batch, waiting for its turn and for events as long as it takes.

        What passes by itself (no connection, the turn lost) is waited out; what is in hand then, and not committed,
        comes again.

        Raises:
            LogMismatchError: The log is not the one that was read: it has lost what was there.
            CodecError: An event is unknown, unreadable, or newer than the code.
        """
        while True:
            if not self._is_open:
                raise ClosedError("subscription")
            try:
                return await self._next()
            except _PASSING as error:
                await self.start_over(error)
            except Exception as error:
                self.progress.fail(error)
                await self._end_turn()
                raise

    async def _next(self) -> EventBatch[T]:
        hold = self._hold = self._hold or await self._take_turn()
        while True:
            hold.require()
            batch = await hold.next_batch()
            if batch is None:
                if self.state != "live":
                    self.progress.enter("live")
                await hold.settle()
                await self._polling.wait()
                continue
            self._backoff.reset()
            self._polling.reset()
            if batch.behind:
                self.progress.enter("catching up")
            start = 0
            for first in self.interest.slices(batch.events):
                start += SLICE
                if first:
                    hold.deliver(batch)
                    return EventBatch(self, hold, batch, first, start)
            if hold.pass_over(batch.checkpoint):
                self.progress.reached(batch.checkpoint.position)
            await hold.settle()

    async def _take_turn(self) -> Hold:
        self.progress.enter("waiting")
        lease = await self._leases.wait_for(self.checkpoint_name, new_owner())
        try:
            await require_on_log(self._log, self.checkpoint_name, self._last)  # it may be what a failover has lost
            checkpoint = await Checkpoints(self._log.session).claim(
                self.checkpoint_name, lease, lambda: place_of(self._log, self._start)
            )
            await require_on_log(self._log, self.checkpoint_name, checkpoint)
        except BaseException:
            await self._leases.release_quietly(lease)
            raise
        self._last = checkpoint
        self.progress.reached(checkpoint.position)
        self.progress.enter("catching up")
        return Hold(self._log, self._leases, lease, checkpoint, wanted=self.interest.wanted, batch=self._batch)

    async def commit(self, hold: Hold, to: Checkpoint, tx: Transaction | None, *, events: int) -> None:
        """Move the checkpoint; see `EventBatch.commit`."""
        if hold is not self._hold:
            raise LeaseLostError(self.checkpoint_name)
        if tx is not None:
            await hold.commit(to, tx.log.session, provisional=True)
        else:
            await self._commit_now(hold, to)
            self._last = to
        self.progress.reached(to.position, events=events)

    async def _commit_now(self, hold: Hold, to: Checkpoint) -> None:
        """Repeat it until there is an answer: moved twice to one place, a checkpoint is there."""
        while True:
            try:
                await hold.commit(to, self._log.session, provisional=False)
            except (UnavailableError, TransactionConflictError):
                before = self.state
                self.progress.enter("backing off")
                try:
                    await self._backoff.wait()
                finally:
                    if hold is self._hold:  # else the turn is over, and what the reader does now has its own state
                        self.progress.enter(before)
            else:
                return

    async def while_held(self, work: asyncio.Task[None]) -> None:
        """Wait for some work of the turn; when the turn is lost, the work is cancelled.

        Raises:
            LeaseLostError: It is lost.
        """
        hold = self._hold
        if hold is None:
            raise LeaseLostError(self.checkpoint_name)
        try:
            await asyncio.wait((work, hold.keeper), return_when=asyncio.FIRST_COMPLETED)
        finally:
            if not work.done():
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)
        if work.cancelled():
            raise LeaseLostError(self.checkpoint_name)
        work.result()

    async def start_over(self, error: Exception) -> None:
        """Give up the turn after something that passes by itself, and back off."""
        log.warning("subscription %s starts over: %s", self.name, error)
        self.progress.enter("backing off")
        await self._end_turn()
        await self._backoff.wait()

    async def _end_turn(self) -> None:
        hold, self._hold = self._hold, None
        if hold is not None:
            await hold.end()
