"""eventsourcing: followed by `notification_log.select` behind the last id, as its processing applications do."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from eventsourcing.persistence import IntegrityError

from benchmarks.payload import fields
from benchmarks.peers.eventsourcing import Account, Peer
from benchmarks.peers.histories.adapting import PeerSubject
from benchmarks.peers.histories.playing import PAGE, Appended, Conflict, Shown


class Eventsourcing(PeerSubject):
    """Its application. Each append gets the aggregate at the expected version, unless its writer has just saved it."""

    opens = Peer
    blocks = True
    takes_any = False

    async def open(self) -> None:
        """Connect."""
        await super().open()
        self._bank = self._peer.bank
        self._saved: dict[tuple[UUID, int], Account] = {}

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Trigger the events and save the aggregate."""
        assert expected is not None  # noqa: S101 - `takes_any` says so
        account, rest = self._at(stream, expected, tokens)
        for token in rest:
            account.deposit(**_with(token))
        try:
            recordings = self._bank.save(account)
        except IntegrityError as conflict:
            raise Conflict from conflict
        self._saved[stream, account.version] = account
        return Appended(expected + 1, recordings[-1].notification.id)

    def _at(self, stream: UUID, version: int, tokens: list[str]) -> tuple[Account, list[str]]:
        if version == 0:
            return Account(key=stream, **_with(tokens[0])), tokens[1:]
        saved = self._saved.pop((stream, version), None)
        return saved or self._bank.repository.get(stream, version=version), tokens

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Get the aggregate's events."""
        return [_shown(None, one) for one in self._bank.events.get(stream)]

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        """Select a page of notifications."""
        page = self._bank.notification_log.select(place, PAGE, inclusive_of_start=False)
        shown = [_shown(one.id, self._bank.mapper.to_domain_event(one)) for one in page]
        return shown, page[-1].id if page else place


def _with(token: str) -> dict[str, Any]:
    return {**fields(0), "reference": token}


def _shown(position: int | None, one: Any) -> Shown:
    return Shown(position, str(one.originator_id), one.originator_version, one.reference)


SUBJECTS = {"notification_log.select": Eventsourcing}
