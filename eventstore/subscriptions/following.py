"""Following the log: batches in the order of positions, never past a place where something may still appear.

catching up: pages up to the high-water mark, one after the other, each read together with the event that it follows on
    | nothing more below the mark          | that event is not there, or another run of a server answers
    |                                      v
    |                           looking again: is the event on the log? no: `LogMismatchError`; yes: a new mark
    v
waiting: asks for the sequence's last value, less often while nothing happens; asks for the mark when that value
has moved, or when the last mark was below it (else the last events would stay unseen once the log goes quiet), at once
when there was news the last time, and once a second in any case, when it also looks for the event that it stands at

A pool connects again by itself, perhaps to another server, and nobody hears of it. So no answer is trusted for longer
than the run of the server that gave it: a mark of the old primary says nothing of the new one, and the event that a
page follows on is looked up in the very statement that reads the page.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.db import answering
from eventstore.store.log import LogRange, Mark, NotOnLogError
from eventstore.store.reading import PageSize
from eventstore.streams import SLICES
from eventstore.subscriptions.checkpoints import Checkpoint, require_on_log

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.lifecycle import Wakeup
    from eventstore.store import Log

BATCH: Final = 1000
"""Events looked at in one batch."""

FIRST_BATCH: Final = 16
"""Events looked at before it is known how large they are."""

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
        looked_at: How many events were looked at, wanted or not, at the most.
    """

    events: list[StoredEvent]
    checkpoint: Checkpoint
    behind: int
    looked_at: int


class Polling:
    """The pauses of somebody who looks for news: longer while there are none, cut short by a wake-up.

    Args:
        wakeup: What cuts them short, but for the first one: else a busy log would be asked without a pause.
    """

    def __init__(self, wakeup: Wakeup) -> None:
        self._wakeup = wakeup
        self._pause = _FIRST_PAUSE

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._pause = _FIRST_PAUSE

    async def wait(self) -> None:
        """Pause."""
        if self._pause == _FIRST_PAUSE:
            await asyncio.sleep(self._pause)
        elif await self._wakeup.wait(self._pause):
            self.reset()
            return
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)


class LogFollower:
    """Reads a log in batches from a checkpoint on, to its end and then live.

    Args:
        log: The log.
        after: Where to go on.
        wanted: Which events; others are passed over, and still counted as read.
        batch: How many events to look at in one batch at the most; where they are large, fewer.
        name: Who reads, for the error that says that the log is not the one it was.
    """

    def __init__(
        self,
        log: Log,
        after: Checkpoint,
        *,
        wanted: LogRange | None = None,
        batch: int = BATCH,
        name: str = "a reader of the log",
    ) -> None:
        self._log = log
        self._name = name
        self._epoch = after.epoch
        self._read_up_to = after.position
        self._event_id = after.event_id
        self._wanted = wanted or LogRange()
        self._size = PageSize(batch, first=FIRST_BATCH, share=_share(self._wanted))
        self._mark = Mark(after.position)
        self._drawn = -1
        self._settled = False
        self._had_news = False
        self._ask_anyway_at = 0.0

    @property
    def behind(self) -> int:
        """How many positions lie between what was read and the last mark: there is more to read at once."""
        return self._mark.position - self._read_up_to

    def __aiter__(self) -> AsyncIterator[Batch]:
        return self

    async def __anext__(self) -> Batch:
        """Return the next batch, waiting for it as long as it takes.

        Raises:
            LogMismatchError: The event that it stands at is not in the log any more.
            UnavailableError: As `next_now`.
        """
        polling = Polling(self._log.wakeup)
        while (batch := await self.next_now()) is None:
            await polling.wait()
        return batch

    async def next_now(self) -> Batch | None:
        """Return the next batch if there is one; None at the end of the log.

        Raises:
            LogMismatchError: The event that it stands at is not in the log any more.
            UnavailableError: PostgreSQL cannot be reached, or does not answer in time; it can be asked again.
        """
        async with answering():
            return await self._next_now()

    async def _next_now(self) -> Batch | None:
        while self._read_up_to < self._mark.position or await self._raise_mark():
            place, rows = (self._read_up_to, self._event_id), self._size.rows
            try:
                page = await self._log.read_on(self._wanted, *place, self._mark, rows)
            except NotOnLogError:
                await self._look_again()
                continue
            if page.last_position is None:
                # Only gaps up to the mark. They are not passed for good: after a crash the sequence can step back to
                # numbers that were drawn and never committed, and hand them out again.
                self._mark = Mark(self._read_up_to)
                return None
            self._size.learn(page.events)
            self._read_up_to, self._event_id = page.last_position, page.last_event_id
            self._had_news = True
            checkpoint = Checkpoint(page.last_position, page.last_event_id, self._epoch)
            return Batch(page.events, checkpoint, self.behind, rows)
        return None

    async def _raise_mark(self) -> bool:
        """Ask how far the log is settled, if there is reason to; return whether that is further than before."""
        now = asyncio.get_running_loop().time()
        had_news, self._had_news = self._had_news, False
        if now >= self._ask_anyway_at:
            await self._require_place()
        elif not had_news and not await self._has_reason():
            return False
        mark = await self._log.settled()
        self._drawn = mark.drawn  # only now: whoever was interrupted while asking has to ask again
        self._ask_anyway_at = now + _ASK_ANYWAY
        self._settled = mark.position >= mark.drawn
        self._mark = mark
        return mark.position > self._read_up_to

    async def _has_reason(self) -> bool:
        """Ask the sequence, which costs less, whether the mark may have moved."""
        drawn = await self._log.last_drawn()
        if drawn < self._read_up_to:  # the log has lost something, or is another one
            await self._require_place()
            return True
        return drawn != self._drawn or not self._settled

    async def _look_again(self) -> None:
        """Find out whether the log is still the one that was read; what was known of its end is known no more."""
        await self._require_place()
        self._mark = Mark(self._read_up_to)
        self._settled = False

    async def _require_place(self) -> None:
        if self._event_id is not None:
            await require_on_log(self._log, self._name, Checkpoint(self._read_up_to, self._event_id))


def _share(wanted: LogRange) -> float:
    """Return how much of the log is wanted, as far as that is known: streams are spread evenly over the slices."""
    if wanted.slices is None:
        return 1.0
    first, last = wanted.slices
    return (last - first + 1) / SLICES
