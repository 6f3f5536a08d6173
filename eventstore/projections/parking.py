"""Parked streams: what a projection holds back, why, and what somebody decided to go on without."""

from __future__ import annotations

import traceback
from collections.abc import Collection
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eventstore.errors import NotParkedError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.codec import StoredEvent
    from eventstore.db import Session

_OURS: Final = str(Path(__file__).parent.parent)
_FRAMES: Final = 5
_FACTS: Final = ("sqlstate", "schema_name", "table_name", "column_name", "constraint_name")
"""What PostgreSQL says of an error beside its text, which may quote a payload."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event could not be applied; nothing of its payload.

    Attributes:
        error_type: The exception's type.
        error: Where it was raised, and what PostgreSQL said of it, line by line.
        attempts: How often the event was tried.
    """

    error_type: str
    error: str
    attempts: int


@dataclass(frozen=True, slots=True)
class ParkedStream:
    """A stream that a projection holds back: its first event that could not be applied, and all that follow.

    Attributes:
        consumer: The projection and its version, `name@version`.
        stream_id: The stream.
        from_version: The version of the event that could not be applied.
        from_position: Its position in the log.
        event_id: Its id.
        event_type: Its type's stored name.
        error_type: The exception's type.
        error: Where it was raised, line by line; never its text, which may quote a payload.
        attempts: How often the event was tried.
        failed_at: When it failed last.
        last_version: The stream's last version: all up to it is held back.
    """

    consumer: str
    stream_id: str
    from_version: int
    from_position: int
    event_id: UUID
    event_type: str
    error_type: str
    error: str
    attempts: int
    failed_at: datetime
    last_version: int

    @property
    def held(self) -> int:
        """How many events are held back."""
        return self.last_version - self.from_version + 1


@dataclass(frozen=True, slots=True)
class DiscardedEvent:
    """A parked event that somebody decided to go on without."""

    consumer: str
    stream_id: str
    stream_version: int
    event_id: UUID
    event_type: str
    error_type: str
    error: str
    failed_at: datetime
    discarded_by: str
    reason: str
    discarded_at: datetime


class ParkedStreams:
    """The parked streams of one consumer, or of all of them.

    Args:
        session: Where the queries run; what changes them is a transaction that holds the consumer's place.
        consumer: The consumer; all of them when left out, to look at them.
    """

    def __init__(self, session: Session, consumer: str | None = None) -> None:
        self._session = session
        self._consumer = consumer

    async def held(self) -> list[ParkedStream]:
        """Return what is held back, oldest first."""
        return [ParkedStream(*row) for row in await self._session.fetch("list_parked_streams", self._consumer)]

    async def discarded(self) -> list[DiscardedEvent]:
        """Return what was discarded, oldest first."""
        return [DiscardedEvent(*row) for row in await self._session.fetch("list_discarded_events", self._consumer)]

    async def find(self, stream_id: str) -> ParkedStream:
        """Return why a stream is held back.

        Raises:
            NotParkedError: It is not.
        """
        row = await self._session.fetchrow("parked_stream", self._consumer, stream_id)
        if row is None:
            raise NotParkedError(str(self._consumer).partition("@")[0], stream_id)
        return ParkedStream(*row)

    async def any(self) -> bool:
        """Whether any stream is held back."""
        row = await self._session.fetchrow("is_any_stream_parked", self._consumer)
        return bool(row and row[0])

    async def among(self, stream_ids: Collection[str]) -> set[str]:
        """Return those of some streams that are held back."""
        return {row[0] for row in await self._session.fetch("parked_among", self._consumer, list(stream_ids))}

    async def count(self) -> int:
        """Return how many streams are held back."""
        row = await self._session.fetchrow("count_parked_streams", self._consumer)
        return int(row[0]) if row else 0

    async def park(self, event: StoredEvent, failure: Failure) -> None:
        """Hold a stream back from an event on; one that is held back already is from now on held at this event."""
        place = (event.stream_id, event.stream_version, event.position, event.event_id, event.event_type)
        why = (getattr(failure, field.name) for field in fields(failure))
        await self._session.fetch("park_stream", self._consumer, *place, *why)

    async def lock(self, stream_id: str) -> None:
        """Keep everybody else from deciding about a stream, until the transaction ends.

        Raises:
            NotParkedError: It is not held back.
        """
        if await self._session.fetchrow("lock_parked_stream", self._consumer, stream_id) is None:
            raise NotParkedError(str(self._consumer).partition("@")[0], stream_id)

    async def release(self, stream_id: str) -> None:
        """Hold a stream back no longer."""
        await self._session.fetch("release_stream", self._consumer, stream_id)

    async def release_all(self) -> None:
        """Hold nothing back any longer."""
        await self._session.fetch("release_all_streams", self._consumer)

    async def rename(self, to: str) -> None:
        """Give all of them to another consumer, in place of its own."""
        await ParkedStreams(self._session, to).release_all()
        await self._session.fetch("rename_parked_streams", self._consumer, to)

    async def note_discard(self, stream_id: str, *, by: str, reason: str) -> None:
        """Note who goes on without the event that a stream is held back from."""
        await self._session.fetch("note_discard", self._consumer, stream_id, by, reason)


def failure_of(error: BaseException | None, attempts: int) -> Failure:
    """Return what is kept of an exception: its type, where it was raised, and nothing that could be a payload's.

    Args:
        error: The exception; None when the process died, and nobody is left to say why.
        attempts: How often the event was tried.
    """
    if error is None:
        return Failure("ProcessDied", "the process ended while it handled the event, each time", attempts)
    if error.__cause__ is not None and not isinstance(error.__cause__, BaseExceptionGroup):
        error = error.__cause__  # ours says which event it was; its cause says why
    frames = traceback.extract_tb(error.__traceback__)
    theirs = [frame for frame in frames if not frame.filename.startswith(_OURS)] or list(frames)
    places = [f"{Path(frame.filename).name}:{frame.lineno} in {frame.name}" for frame in theirs[-_FRAMES:]]
    facts = [f"{name}: {value}" for name in _FACTS if isinstance(value := getattr(error, name, None), str)]
    return Failure(type(error).__qualname__, "\n".join(facts + places), attempts)
