"""eventsource-py: followed by `PostgreSQLEventStore.read_all` behind the last position, as its catch-up runner does."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsource import ExpectedVersion, FeedReadOptions, OptimisticLockError, StreamId

from benchmarks.payload import fields
from benchmarks.peers.eventsource_py import CATEGORY, Deposited, Peer
from benchmarks.peers.histories.adapting import PeerSubject
from benchmarks.peers.histories.playing import PAGE, Appended, Conflict, Shown


class EventsourcePy(PeerSubject):
    """Its store."""

    opens = Peer

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Append."""
        events = [Deposited(aggregate_id=stream, **{**fields(0), "reference": token}) for token in tokens]
        at = ExpectedVersion.any_() if expected is None else ExpectedVersion.exact(expected)
        try:
            done = await self._peer.store.append(_id(stream), events, at)
        except OptimisticLockError as conflict:
            raise Conflict(conflict.actual_version) from conflict
        return Appended(first_version=done.new_version - len(tokens) + 1)

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Read a stream."""
        return [_shown(one) async for one in self._peer.store.read_stream(_id(stream))]

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        """Read a page of the feed."""
        shown = []
        async for one in self._peer.store.read_all(place, FeedReadOptions(limit=PAGE)):
            place = one.position
            shown.append(_shown(one))
        return shown, place


def _id(stream: UUID) -> StreamId:
    return StreamId(aggregate_id=stream, category=CATEGORY)


def _shown(one: Any) -> Shown:
    return Shown(one.position.key[0], str(one.stream_id.aggregate_id), one.stream_version, one.event.reference)


SUBJECTS = {"read_all": EventsourcePy}
