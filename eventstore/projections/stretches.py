"""Stretches: events that are applied together, and the place behind them that is noted in the same transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol, Self

from eventstore.subscriptions import Checkpoint, Checkpoints

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.db.database import ConnectionSession

ALL: Final = ""
"""The share of a worker that has no others beside it."""


class Stretch(Protocol):
    """What is applied in one transaction, and can be divided if that fails."""

    @property
    def events(self) -> Sequence[StoredEvent]:
        """The wanted events, in order."""
        ...

    @property
    def shares(self) -> Mapping[str, int]:
        """Whose share of the events this is, and how much of it: see `Runs`."""
        ...

    def share_of(self, event: StoredEvent) -> str:
        """Return whose share one of the events is."""
        ...

    async def note(self, session: ConnectionSession) -> None:
        """Move the reader's place behind this stretch, by compare-and-set; other readers wait until the commit.

        Raises:
            LeaseLostError: Somebody else has moved it.
        """
        ...

    def split(self, count: int) -> tuple[Self, Self]:
        """Return the stretch up to its first `count` events, and what is left of it."""
        ...


@dataclass(frozen=True)
class LogStretch:
    """A stretch of the log.

    Attributes:
        name: The name of the checkpoint.
        events: The wanted events.
        since: Where the checkpoint is before.
        to: Where it is afterwards.
        looked_at: How many events were looked at, wanted or not, at the most.
    """

    name: str
    events: Sequence[StoredEvent]
    since: Checkpoint
    to: Checkpoint
    looked_at: int

    @property
    def shares(self) -> Mapping[str, int]:
        """The log has one reader."""
        return {ALL: self.looked_at}

    def share_of(self, event: StoredEvent) -> str:  # noqa: ARG002 - see Stretch
        """The log has one reader."""
        return ALL

    async def note(self, session: ConnectionSession) -> None:
        """Move the checkpoint.

        Raises:
            LeaseLostError: Somebody else has moved it.
        """
        await Checkpoints(session).advance(self.name, since=self.since, to=self.to)

    def split(self, count: int) -> tuple[LogStretch, LogStretch]:
        """Return the stretch up to its first `count` events, and what is left of it."""
        last = self.events[count - 1]
        between = Checkpoint(last.position, last.event_id, self.to.epoch)
        return (
            replace(self, events=self.events[:count], to=between, looked_at=count),
            replace(self, events=self.events[count:], since=between, looked_at=self.looked_at - count),
        )
