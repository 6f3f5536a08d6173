"""Time and ids that a test decides, so that it can say what it expects to the letter."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from eventstore.errors import InvalidArgumentError

if TYPE_CHECKING:
    from eventstore.clock import IdGenerator

_NEW_YEAR = datetime(2024, 1, 1, tzinfo=UTC)
_FIRST_ID = uuid.UUID("00000000-0000-7000-8000-000000000000").int


class FakeClock:
    """A clock that stands still until it is told to move.

    Example:
        clock = FakeClock()
        store = memory_store(app, clock=clock)
        clock.advance(days=30)

    Attributes:
        now: What it shows, aware.
    """

    def __init__(self, now: datetime = _NEW_YEAR) -> None:
        self.now = _aware(now)

    def __call__(self) -> datetime:
        """Return what it shows."""
        return self.now

    def advance(
        self, *, days: float = 0, hours: float = 0, minutes: float = 0, seconds: float = 0, milliseconds: float = 0
    ) -> datetime:
        """Move on, and return what it shows then."""
        step = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds, milliseconds=milliseconds)
        self.now += step
        return self.now

    def set(self, now: datetime) -> None:
        """Show another time, later or earlier.

        Raises:
            InvalidArgumentError: It is naive.
        """
        self.now = _aware(now)

    def __repr__(self) -> str:
        return f"FakeClock({self.now.isoformat()})"


def sequential_ids() -> IdGenerator:
    """Return a generator of ids that count: 00000000-0000-7000-8000-000000000001, ...2, ...3."""
    numbers = itertools.count(1)
    return lambda: uuid.UUID(int=_FIRST_ID + next(numbers))


def _aware(time: datetime) -> datetime:
    if time.tzinfo is None:
        raise InvalidArgumentError("a clock shows aware times: give it a time zone, for example tzinfo=UTC")
    return time.astimezone(UTC)
