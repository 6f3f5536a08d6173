"""Following the log without a name: nothing is remembered, nobody waits for a turn."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventstore.subscriptions.following import LogFollower
from eventstore.subscriptions.starting import Start, checked_start, place_of

if TYPE_CHECKING:
    from eventstore.events import RecordedEvent
    from eventstore.store import Log
    from eventstore.subscriptions.interest import Interest

T = TypeVar("T")


class Following(Generic[T]):
    """Recorded events, first those that are there and then those that come, made by `EventStore.follow`.

    It holds no connection between batches, so leaving it half read leaks nothing. After an `UnavailableError` it can be
    asked again, and goes on where it was.
    """

    def __init__(self, log: Log, interest: Interest, *, start: Start) -> None:
        self._log = log
        self._interest = interest
        self._start = checked_start(start)
        self._follower: LogFollower | None = None
        self._in_hand: Iterator[RecordedEvent[Any]] = iter(())

    def __aiter__(self) -> AsyncIterator[RecordedEvent[T]]:
        return self

    async def __anext__(self) -> RecordedEvent[T]:
        """Return the next event, waiting for it as long as it takes.

        Raises:
            LogMismatchError: The log is not the one that was read: it has lost what was there.
            UnavailableError: PostgreSQL cannot be reached; ask again.
            CodecError: An event is unknown, unreadable, or newer than the code.
        """
        while True:
            for event in self._in_hand:
                return event
            await self._turn()

    async def next_page(self) -> list[RecordedEvent[T]]:
        """Return the events of the next stretch of the log, perhaps none."""
        await self._turn()
        return list(self._in_hand)

    async def _turn(self) -> None:
        if self._follower is None:
            start = await place_of(self._log, self._start)
            self._follower = LogFollower(self._log, start, wanted=self._interest.wanted)
        batch = await anext(self._follower)
        self._in_hand = (event for events in self._interest.slices(batch.events) for event in events)
