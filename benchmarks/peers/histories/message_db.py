"""message-db-py: followed by `read_category` in one category, and by `read("$all")` over four."""

from __future__ import annotations

import re
from typing import Any, ClassVar
from uuid import UUID

from benchmarks.payload import fields
from benchmarks.peers.histories.adapting import PeerSubject
from benchmarks.peers.histories.playing import PAGE, Appended, Conflict, Shown
from benchmarks.peers.message_db import Peer

_ACTUAL = re.compile(r"Wrong expected version: .*Stream Version: (?P<version>-?\d+)")


class OneCategory(PeerSubject):
    """Its client; all streams are of one category."""

    opens = Peer
    blocks = True
    categories: ClassVar[int] = 1

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Write messages."""
        messages = [("Deposited", {**fields(0), "reference": token}) for token in tokens]
        at = None if expected is None else expected - 1
        try:
            last = self._peer.store.write_batch(self._name(stream), messages, expected_version=at)
        except ValueError as error:
            if told := _ACTUAL.search(str(error)):
                raise Conflict(int(told["version"]) + 1) from error
            raise
        return Appended(first_version=last + 2 - len(tokens))

    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Read a stream, in batches until one is not full."""
        shown: list[Shown] = []
        while True:
            page = self._peer.store.read_stream(self._name(stream), position=len(shown), no_of_messages=PAGE)
            shown += map(_shown, page)
            if len(page) < PAGE:
                return shown

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        """Read a batch of messages."""
        page = self._page(place)
        return [_shown(one) for one in page], page[-1]["global_position"] if page else place

    def _page(self, place: int | None) -> list[dict[str, Any]]:
        begin = 0 if place is None else place + 1
        return self._peer.store.read_category("account0", position=begin, no_of_messages=PAGE)

    def _name(self, stream: UUID) -> str:
        return f"account{stream.int % self.categories}-{stream}"


class AllMessages(OneCategory):
    """Its client; streams are of four categories."""

    categories = 4

    def _page(self, place: int | None) -> list[dict[str, Any]]:
        return self._peer.store.read("$all", position=place or 0, no_of_messages=PAGE)


def _shown(one: dict[str, Any]) -> Shown:
    stream = one["stream_name"].partition("-")[2]
    return Shown(one["global_position"], stream, one["position"] + 1, one["data"]["reference"])


SUBJECTS = {"read_category, one category": OneCategory, 'read("$all"), four categories': AllMessages}
