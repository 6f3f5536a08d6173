"""Runs: who applies a consumer's events just now, noted so that the next one can tell that the last one died.

    begun (a row says whose run it is) --stopped in good order--> the row is gone
        '-- the process dies --> the row is left: whoever comes next goes carefully until it is past where the dead one
            can have been: in parts, each noted in a transaction of its own beforehand
                '-- dies again --> goes through that part event by event, each attempt noted beforehand

A consumer's events may be shared out (the partitions of a topic): each share has a row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID, uuid4

from eventstore.db import Answering
from eventstore.errors import LeaseLostError, UnavailableError

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.db import Session
    from eventstore.projections.stretches import Stretch
    from eventstore.store import EventStore

log = logging.getLogger(__name__)

_END_SECONDS: Final = 3.0
"""How long noting the end may take; what is not noted makes the next one careful, and nothing worse."""


PART: Final = 100
"""Events that are applied together where somebody may have died; so few at once are applied one by one."""


class Attempts(NamedTuple):
    """How often an event was tried alone; 0 when it was the first of a part."""

    stream_id: str
    stream_version: int
    times: int


class Breaks(NamedTuple):
    """How often the connection broke while handlers ran, at one place."""

    times: int
    last: Exception


class Runs:
    """The run of one worker, over all its restarts within its process.

    Args:
        store: The store, on PostgreSQL.
        consumer: Whose events they are.
        span: How many events may be under way in one transaction: so many are applied carefully after a death.
    """

    def __init__(self, store: EventStore, consumer: str, span: int) -> None:
        self._store = store
        self._consumer = consumer
        self._span = span
        self._id = uuid4()
        self._held: set[str] = set()
        self._careful: dict[str, int] = {}
        self._alone: dict[str, int] = {}
        self._attempts: dict[str, Attempts] = {}
        self._breaks: dict[str, Breaks] = {}

    @property
    def _session(self) -> Session:
        """Where it is noted; looked up when it is: a worker may be declared on a store in memory, too."""
        return Answering(self._store.database)

    @asynccontextmanager
    async def noted(self, *shares: str) -> AsyncIterator[None]:
        """Note that we are at work for the length of the block, on some shares and those that `begin` adds."""
        try:
            await self.begin(shares)
            yield
        finally:
            await self.end()

    async def begin(self, shares: Collection[str]) -> None:
        """Note that these shares are ours; find out whether the one before us died on them, and at which event."""
        for share in shares:
            self._held.add(share)
            row = await self._session.fetchrow("load_run", self._consumer, share)
            if row is not None and row[0] != self._id:
                self._take_after_death(share, *row)
            await self._session.fetch("begin_run", self._consumer, share, self._id)

    def _take_after_death(self, share: str, _run: UUID, stream_id: str | None, version: int | None, count: int) -> None:
        log.warning("%s%s ended without a word: going on carefully", self._consumer, share and f" ({share})")
        self._careful[share] = self._span
        if stream_id is not None and version is not None:
            self._alone[share] = PART
            self._attempts[share] = Attempts(stream_id, version, count)

    async def end(self) -> None:
        """Note that we have stopped in good order, if that can be noted."""
        shares, self._held = sorted(self._held), set()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._session.fetch("end_runs", self._consumer, self._id, shares)
        except (UnavailableError, TimeoutError):
            return  # our own next run knows better, and others will be careful for nothing

    def together(self, part: Stretch, of: int) -> int | None:
        """Return how many events may be applied in one transaction; None for any number.

        Args:
            part: What is left of a stretch.
            of: How many events the whole stretch had.
        """
        if self._careful.keys().isdisjoint(part.shares):
            return None
        return PART if of > PART and self._alone.keys().isdisjoint(part.shares) else 1

    def note_passed(self, stretch: Stretch) -> None:
        """Count a stretch, or a part of one, as passed: care ends once all is that can have been under way."""
        for share, size in stretch.shares.items():
            self._breaks.pop(share, None)
            _count_down(self._careful, share, size)
        if self._alone:
            for event in stretch.events:
                _count_down(self._alone, stretch.share_of(event), 1)

    def note_break(self, stretch: Stretch, error: Exception) -> None:
        """Note that the connection broke in a stretch: once may be chance, again without progress asks for care."""
        for share in stretch.shares:
            times = self._breaks[share].times + 1 if share in self._breaks else 1
            self._breaks[share] = Breaks(times, error)
            if share in self._careful:
                self._alone[share] = PART
            if times > 1:
                self._careful[share] = self._span

    def breaks_at(self, share: str) -> Breaks | None:
        """Return how often the connection has broken in a share since anything of it was passed."""
        return self._breaks.get(share)

    def attempts_at(self, share: str, event: StoredEvent) -> int:
        """Return how often an event was tried alone, by us or by one that died at it."""
        known = self._attempts.get(share)
        is_it = known is not None and known[:2] == (event.stream_id, event.stream_version)
        return known.times if known is not None and is_it else 0

    async def note_part(self, part: Stretch) -> None:
        """Note which events we are about to try together: by the first one in each share.

        Raises:
            LeaseLostError: Somebody else works on a share.
        """
        firsts: dict[str, StoredEvent] = {}
        for event in part.events:
            firsts.setdefault(part.share_of(event), event)
        for share, event in firsts.items():
            await self.note_attempt(share, event, 0)

    async def note_attempt(self, share: str, event: StoredEvent, count: int) -> None:
        """Note which event we are about to try, and for which time.

        Raises:
            LeaseLostError: Somebody else works on the share.
        """
        about = (self._consumer, share, self._id, event.stream_id, event.stream_version, count)
        if await self._session.fetchrow("note_attempt", *about) is None:
            raise LeaseLostError(self._consumer)
        self._attempts[share] = Attempts(event.stream_id, event.stream_version, count)

    def take_back_attempt(self, share: str) -> None:
        """Count an attempt for nothing: what failed was not the event."""
        known = self._attempts[share]
        self._attempts[share] = known._replace(times=known.times - 1)


def _count_down(left: dict[str, int], share: str, by: int) -> None:
    if share in left:
        left[share] -= by
        if left[share] <= 0:
            del left[share]
