"""Runs: who applies a consumer's events just now, noted so that the next one can tell that the last one died.

    begun (a row says whose run it is) --stopped in good order--> the row is gone
        '-- the process dies --> the row is left: whoever comes next goes carefully until it is past where the dead one
            can have been: in parts, each noted in a transaction of its own beforehand
                '-- dies again --> the events of that part are suspects: they are tried alone, each attempt noted

A consumer's events may be shared out (the partitions of a topic): each share has a row.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from itertools import takewhile
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
"""Events that are tried together where somebody may have died. A batch that has no more is tried event by event at
once: so a deadly event costs one death less, and time only where there is much to do."""


class Noted(NamedTuple):
    """What was noted before it was tried: one event, or a part of a share's events.

    Attributes:
        stream_id: The stream of the event, or of the part's first one.
        stream_version: Its version.
        times: For which time the event is tried alone; of a part, how many events are in it, below zero.
    """

    stream_id: str
    stream_version: int
    times: int

    def begins_at(self, event: StoredEvent) -> bool:
        """Whether it is this event, or the part begins with it."""
        return (self.stream_id, self.stream_version) == _about(event)


class Breaks(NamedTuple):
    """How often the connection broke while handlers ran, since anything of a share was passed.

    Attributes:
        times: How often.
        event: Which event was handled alone the last time, if it was.
        alone: How often it broke at this one.
        last: The last error.
    """

    times: int
    event: tuple[str, int] | None
    alone: int
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
        self._noted: dict[str, Noted] = {}
        self._unmet: set[str] = set()
        self._suspects: dict[str, int] = {}
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
            self._noted[share] = Noted(stream_id, version, count)
            self._unmet.add(share)

    async def end(self) -> None:
        """Note that we have stopped in good order, if that can be noted."""
        shares, self._held = sorted(self._held), set()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await self._session.fetch("end_runs", self._consumer, self._id, shares)
        except (UnavailableError, TimeoutError):
            return  # our own next run knows better, and others will be careful for nothing

    def meet(self, stretch: Stretch) -> None:
        """Look whether what the dead one has noted still lies ahead: it begins where its share goes on, or is past."""
        for event in stretch.events if self._unmet else ():
            share = stretch.share_of(event)
            if share in self._unmet:
                self._unmet.discard(share)
                if (noted := self._noted[share]).begins_at(event):
                    self._suspects[share] = max(1, -noted.times)

    def together(self, part: Stretch, of: int) -> int | None:
        """Return how many of the next events are tried in one transaction; None where nobody can have died.

        Args:
            part: What is left of a stretch.
            of: How many events were in the whole stretch.
        """
        if self._careful.keys().isdisjoint(part.shares):
            return None
        if of <= PART:
            return 1
        unsuspected = takewhile(lambda event: part.share_of(event) not in self._suspects, part.events[:PART])
        return max(1, sum(1 for _ in unsuspected))

    def note_passed(self, stretch: Stretch) -> None:
        """Count a stretch, or a part of one, as passed: care ends once all is that can have been under way."""
        for share, size in stretch.shares.items():
            self._breaks.pop(share, None)
            _count_down(self._careful, share, size)
        if not self._suspects.keys().isdisjoint(stretch.shares):
            for event in stretch.events:
                _count_down(self._suspects, stretch.share_of(event), 1)

    def note_break(self, stretch: Stretch, error: Exception) -> None:
        """Note that the connection broke in a stretch: once may be chance, again without progress asks for care."""
        event = _about(stretch.events[0]) if len(stretch.events) == 1 else None
        for share in stretch.shares:
            before = self._breaks.get(share, Breaks(0, None, 0, error))
            alone = 0 if event is None else 1 + (before.alone if before.event == event else 0)
            self._breaks[share] = Breaks(before.times + 1, event, alone, error)
            if before.times:
                self._careful[share] = self._span
            if before.times > 1 and event is None:
                self._suspects[share] = sum(stretch.share_of(one) == share for one in stretch.events)

    def breaks_at(self, share: str, event: StoredEvent) -> Breaks | None:
        """Return how often the connection has broken while an event was handled alone, if it has."""
        known = self._breaks.get(share)
        return known if known is not None and known.event == _about(event) else None

    def attempts_at(self, share: str, event: StoredEvent) -> int:
        """Return how often an event was tried alone, by us or by one that died at it."""
        noted = self._noted.get(share)
        return max(0, noted.times) if noted is not None and noted.begins_at(event) else 0

    async def note_part(self, part: Stretch) -> None:
        """Note which events we are about to try together: in each share, where they begin and how many they are.

        Raises:
            LeaseLostError: Somebody else works on a share.
        """
        noted: dict[str, Noted] = {}
        for event in part.events:
            share = part.share_of(event)
            known = noted.get(share, Noted(*_about(event), 0))
            noted[share] = known._replace(times=known.times - 1)
        await self._note(noted)

    async def note_attempt(self, share: str, event: StoredEvent, count: int) -> None:
        """Note which event we are about to try alone, and for which time.

        Raises:
            LeaseLostError: Somebody else works on the share.
        """
        await self._note({share: Noted(*_about(event), count)})

    def take_back_attempt(self, share: str) -> None:
        """Count an attempt for nothing: what failed was not the event."""
        known = self._noted[share]
        self._noted[share] = known._replace(times=known.times - 1)

    async def _note(self, noted: Mapping[str, Noted]) -> None:
        columns = zip(*noted.values(), strict=True)
        about = (self._consumer, self._id, list(noted), *map(list, columns))
        if noted and len(await self._session.fetch("note_attempts", *about)) < len(noted):
            raise LeaseLostError(self._consumer)
        self._noted.update(noted)


def _about(event: StoredEvent) -> tuple[str, int]:
    """Return what tells an event from all others."""
    return event.stream_id, event.stream_version


def _count_down(left: dict[str, int], share: str, by: int) -> None:
    if share in left:
        left[share] -= by
        if left[share] <= 0:
            del left[share]
