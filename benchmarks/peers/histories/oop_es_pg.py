"""oop-es-pg: there is no log over all streams to follow, so it is judged by its streams."""

from __future__ import annotations

from uuid import UUID

from oop_es.event import Message
from oop_es.store.exception import WrongEventVersionException

from benchmarks.payload import fields
from benchmarks.peers.histories.adapting import PeerSubject
from benchmarks.peers.histories.playing import Appended, Conflict, Shown
from benchmarks.peers.oop_es_pg import Deposited, Peer


class OopEsPg(PeerSubject):
    """Its store. Its versions count from 0."""

    opens = Peer
    takes_any = False

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Add messages."""
        assert expected is not None  # noqa: S101 - `takes_any` says so
        events = [Deposited(**{**fields(0), "reference": token}) for token in tokens]
        messages = [Message(stream, event, version) for version, event in enumerate(events, expected)]
        try:
            await self._peer.store.add(messages)
        except WrongEventVersionException as conflict:
            raise Conflict from conflict
        return Appended()

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Load a stream's events."""
        events = await self._peer.store.load_events(stream)
        return [Shown(None, str(stream), version + 1, event.reference) for version, event in events.items()]


SUBJECTS = {"no log": OopEsPg}
