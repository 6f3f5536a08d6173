"""What the adapters have in common: each opens the library as the benchmarks do, with their `Peer`."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.peers.histories.playing import CONNECTIONS, Subject


class PeerSubject(Subject):
    """A library that the benchmarks open, too."""

    opens: ClassVar[type[Any]]
    """The benchmarks' `Peer` of the library."""

    async def open(self) -> None:
        """Connect, and make the tables as the library's documentation says."""
        self._peer = self.opens(self.dsn, CONNECTIONS)
        await self._peer.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._peer.close()
