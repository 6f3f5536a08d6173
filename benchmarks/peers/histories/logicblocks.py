"""logicblocks: followed by `log().iterate` behind the last sequence number, as its subscription consumers do."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from logicblocks.event.sources import constraints
from logicblocks.event.store import UnmetWriteConditionError, conditions
from logicblocks.event.types import NewEvent

from benchmarks.payload import fields
from benchmarks.peers.histories.adapting import PeerSubject
from benchmarks.peers.histories.playing import Appended, Conflict, Shown
from benchmarks.peers.logicblocks import CATEGORY, Peer


class Logicblocks(PeerSubject):
    """Its event store."""

    opens = Peer

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Publish."""
        events = [NewEvent(name="deposited", payload={**fields(0), "reference": token}) for token in tokens]
        try:
            stored = await self._stream(stream).publish(events=events, condition=_at(expected))
        except UnmetWriteConditionError as conflict:
            raise Conflict from conflict
        return Appended(stored[0].position + 1, stored[-1].sequence_number)

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Iterate over a stream."""
        return [_shown(one) async for one in self._stream(stream).iterate()]

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        """Iterate over the log, to its end: it has no pages to ask for."""
        behind = frozenset() if place is None else frozenset({constraints.sequence_number_after(place)})
        shown = [_shown(one) async for one in self._peer.store.log().iterate(constraints=behind)]
        return shown, shown[-1].position if shown else place

    def _stream(self, stream: UUID) -> Any:
        return self._peer.store.stream(category=CATEGORY, stream=str(stream))


def _at(expected: int | None) -> Any:
    if expected is None:
        return conditions.NoCondition()
    return conditions.position_is(expected - 1) if expected else conditions.stream_is_empty()


def _shown(one: Any) -> Shown:
    return Shown(one.sequence_number, one.stream, one.position + 1, one.payload["reference"])


SUBJECTS = {"log().iterate": Logicblocks}
