"""What followers of the log report of themselves, for `status` and health probes; nothing is decided by it."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from eventstore.db import Session
    from eventstore.subscriptions.progress import Progress

REPORT_SECONDS: Final = 1.0
"""How often it is looked at what has changed; what has not is not reported again."""

_LAST_WORDS: Final = 1.0
"""How long a report on the way out may take."""

_MOST: Final = 500
"""Characters of a reason."""


class Report(NamedTuple):
    """A follower at a glance.

    Attributes:
        state: What it is doing.
        events: How many events it has handled since it began.
        rate: Events a second, since the report before.
        reason: What it has failed with.
    """

    state: str
    events: int
    rate: float
    reason: str | None


async def reporting(session: Session, followers: Mapping[str, Progress]) -> None:
    """Report, for ever, what has changed; on the way out, how it ended.

    Args:
        session: Where reports are kept.
        followers: Who is looked at, by the names of their checkpoints.
    """
    reporter = _Reporter(session, followers)
    try:
        while True:
            await asyncio.sleep(REPORT_SECONDS)
            await reporter.report()
    finally:
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS):
                await reporter.report()


class _Reporter:
    def __init__(self, session: Session, followers: Mapping[str, Progress]) -> None:
        self._session = session
        self._followers = followers
        self._by = f"{socket.gethostname()}:{os.getpid()}"
        self._said: dict[str, Report] = {}
        self._looked_at = asyncio.get_running_loop().time()
        self._counted = {name: progress.events for name, progress in followers.items()}

    async def report(self) -> None:
        now = asyncio.get_running_loop().time()
        seconds, self._looked_at = max(now - self._looked_at, 0.001), now
        for name, progress in self._followers.items():
            rate = (progress.events - self._counted[name]) / seconds
            self._counted[name] = progress.events
            report = Report(progress.state, progress.events, rate, _reason(progress.failure))
            if report == self._said.get(name) or self._stands_by(name, report):
                continue
            with suppress(EventStoreError):  # it is only a report; the work itself says what is wrong
                await self._session.fetchrow("report_follower", name, *report, self._by)
                self._said[name] = report

    def _stands_by(self, name: str, report: Report) -> bool:
        """Whether it has never had its turn: somebody else reports then."""
        return name not in self._said and report.state == "waiting"


def _reason(failure: Exception | None) -> str | None:
    """Return what our own errors say, which is never a payload; of others only what they are."""
    if failure is None:
        return None
    return str(failure)[:_MOST] if isinstance(failure, EventStoreError) else type(failure).__qualname__
