"""Waiting for a projection, in whatever process its worker runs: how a service reads what it has just written.

The worker's place is asked for, often at first and then less: a checkpoint for a read model that the log feeds, the
last version of the event's own stream for one that Kafka feeds. A stream that is held back is not waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

from eventstore.errors import NotCaughtUpError, ParkedStreamError, WaitsForItselfError
from eventstore.events import position_number

if TYPE_CHECKING:
    from eventstore.db import Database
    from eventstore.events import Position

_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.1


class Projected(Protocol):
    """A projection, as far as waiting for it cares."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def consumer_name(self) -> str:
        """The name of its checkpoint."""
        ...

    @property
    def inline(self) -> bool:
        """Whether it changes in the append's transaction, so that it is never behind."""
        ...


class Awaited:
    """A place that a projection is to come to.

    Args:
        database: The way to PostgreSQL.
        projection: The projection.
        position: Everything up to here is to be in its read model.
        stream_id: A stream that must not be held back, beside the one of the event at the position.
    """

    def __init__(self, database: Database, projection: Projected, position: Position, stream_id: str | None) -> None:
        self._database = database
        self._projection = projection
        self._position = position_number(position)
        self._also = stream_id
        self._stream_id: str | None = None
        self._version = 0
        self._seen_at = 0

    async def wait(self, within: float | None, *, has_appended: bool) -> None:
        """Return once the projection is there.

        Args:
            within: How many seconds to wait; for ever when left out.
            has_appended: Whether the caller's own open transaction holds back what is waited for.
        """
        bound = asyncio.timeout(within)
        try:
            async with bound:
                await self._wait(has_appended=has_appended)
        except TimeoutError:
            if within is None or not bound.expired():
                raise  # somebody else's
            waits_for = "a worker: `eventstore status` shows whether one holds its lease"
            what = f"projection {self._projection.name!r}"
            raise NotCaughtUpError(what, self._seen_at, "seen from here", within, waits_for) from None

    async def _wait(self, *, has_appended: bool) -> None:
        pause = _FIRST_PAUSE
        while not self._projection.inline and not await self._is_there():
            if has_appended:
                raise WaitsForItselfError(self._projection.name)
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE)
        await self._require_not_held_back()

    async def _is_there(self) -> bool:
        position, version = await self._place()
        return position >= self._position or bool(self._version and version >= self._version)

    async def _place(self) -> tuple[int, int]:
        """Return how far the projection has come in the log, and in the stream of the event that is waited for."""
        if self._stream_id is None:
            row = await self._database.fetchrow("event_at_or_below", self._position)
            if row is not None:
                self._stream_id, self._version = row[0], row[1]
        row = await self._database.fetchrow("applied_up_to", self._projection.consumer_name, self._stream_id)
        position, version = row or (None, None)
        self._seen_at = position or 0
        return self._seen_at, version or 0

    async def _require_not_held_back(self) -> None:
        streams = [stream_id for stream_id in (self._stream_id, self._also) if stream_id is not None]
        held = await self._database.fetch("held_back_from", self._projection.consumer_name, streams)
        for stream_id, from_version in held:
            if stream_id == self._also or from_version <= self._version:
                raise ParkedStreamError(self._projection.name, stream_id, from_version)
