"""Following the log: batches in the order of positions, never past a place where something may still appear.

catching up: pages up to the high-water mark, one after the other
    | nothing more below the mark
    v
waiting: asks for the sequence's last value, less often while nothing happens; asks for the mark when that value
has moved, or when the last mark was below it (else the last events would stay unseen once the log goes quiet), and
once a second in any case
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.store.log import LogRange
from eventstore.subscriptions.checkpoints import Checkpoint

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.store import Log

BATCH: Final = 1000
"""Events looked at in one batch."""

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
_ASK_ANYWAY: Final = 1.0
"""Seconds after which the mark is asked for even if the sequence stands still: it may have gone back and returned."""


class Batch(NamedTuple):
    """A stretch of the log that was read.

    Attributes:
        events: The wanted events in it, as they are stored, in order; may be empty.
        checkpoint: The last event looked at, wanted or not: where to go on once the batch is done.
        behind: How many positions lie between it and the high-water mark.
    """

    events: list[StoredEvent]
    checkpoint: Checkpoint
    behind: int


class LogFollower:
    """Reads a log in batches from a checkpoint on, to its end and then live.

    Args:
        log: The log.
        after: Where to go on.
        wanted: Which events; others are passed over, and still counted as read.
        batch: How many events to look at in one batch.
    """

    def __init__(self, log: Log, after: Checkpoint, *, wanted: LogRange | None = None, batch: int = BATCH) -> None:
        self._log = log
        self._epoch = after.epoch
        self._read_up_to = after.position
        self._wanted = wanted or LogRange()
        self._batch = batch
        self._mark = after.position
        self._drawn = -1
        self._settled = False
        self._ask_anyway_at = 0.0

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        """Return the next batch, waiting for it as long as it takes."""
        pause = _FIRST_PAUSE
        while (batch := await self.next_now()) is None:
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        return batch

    async def next_now(self) -> Batch | None:
        """Return the next batch if there is one; None at the end of the log."""
        if self._read_up_to >= self._mark and not await self._raise_mark():
            return None
        page = await self._log.read_all(self._wanted, self._read_up_to, self._mark, self._batch)
        if page.last_position is None:
            # Only gaps up to the mark. They are not passed for good: after a crash the sequence can step back to
            # numbers that were drawn and never committed, and hand them out again.
            self._mark = self._read_up_to
            return None
        self._read_up_to = page.last_position
        checkpoint = Checkpoint(page.last_position, page.last_event_id, self._epoch)
        return Batch(page.events, checkpoint, self._mark - page.last_position)

    async def _raise_mark(self) -> bool:
        """Ask how far the log is settled, if there is reason to; return whether that is further than before."""
        drawn = await self._log.last_drawn()
        now = asyncio.get_running_loop().time()
        if drawn == self._drawn and self._settled and now < self._ask_anyway_at:
            return False
        mark = await self._log.high_water()
        self._drawn = drawn  # only now: whoever was interrupted while asking has to ask again
        self._ask_anyway_at = now + _ASK_ANYWAY
        self._settled = mark >= drawn
        self._mark = mark
        return mark > self._read_up_to
