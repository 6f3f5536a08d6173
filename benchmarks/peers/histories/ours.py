"""The framework itself: followed by `read_all` behind the last position."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.domain import Deposited, app
from benchmarks.payload import fields
from benchmarks.peers.histories.playing import CONNECTIONS, Appended, Conflict, Shown, Subject
from eventstore import ANY, EventStore, WrongExpectedVersionError
from eventstore.events import BEGINNING, RecordedEvent, position_number

if TYPE_CHECKING:
    from uuid import UUID


class Ours(Subject):
    """A store."""

    async def open(self) -> None:
        """Connect; its migrations are there."""
        self._opened = EventStore.open(self.dsn, app, pool_size=CONNECTIONS)
        self._store = await self._opened.__aenter__()

    async def close(self) -> None:
        """Disconnect."""
        await self._opened.__aexit__(None, None, None)

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Append."""
        events = [Deposited(**{**fields(0), "reference": token}) for token in tokens]
        at = ANY if expected is None else expected
        try:
            done = await self._store.append(_id(stream), events, expected_version=at)
        except WrongExpectedVersionError as conflict:
            raise Conflict(conflict.actual) from conflict
        return Appended(done.first_version, position_number(done.position))

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Read a stream."""
        return [_shown(one) async for one in self._store.read_stream(_id(stream), of=Deposited)]

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        """Read the log to what is its end for now."""
        events = await self._store.read_all(after=BEGINNING if place is None else place, of=Deposited).to_list()
        return list(map(_shown, events)), events[-1].position if events else place


def _id(stream: UUID) -> str:
    return f"account-{stream}"


def _shown(one: RecordedEvent[Deposited]) -> Shown:
    stream = one.stream_id.partition("-")[2]
    return Shown(position_number(one.position), stream, one.stream_version, one.data.reference)


SUBJECTS = {"read_all": Ours}
