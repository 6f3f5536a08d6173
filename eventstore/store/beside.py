"""Beside the lanes of a group commit: appends that go one by one, and waiting for streams that other transactions hold.

Their connections are few, and many may need one: a batch whose answer was lost is resolved append by append. So nobody
keeps a connection for carrying out while somebody else's transaction holds the stream, which can take for ever. There
are others for waiting in line, while there are any; who finds none comes back later.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from typing_extensions import override

from eventstore.lifecycle import Backoff
from eventstore.store.appending import DirectAppender, StreamHeldError, append_once

if TYPE_CHECKING:
    from eventstore.codec import Codec
    from eventstore.events import AppendResult
    from eventstore.store.log import AppendRequest, Log

BUSY_SECONDS: Final = 0.01
"""How long a held stream is left alone, at first, when all connections that could wait for it are taken."""

_MOST_BUSY_SECONDS: Final = 0.2


class BesideAppender(DirectAppender):
    """Appends one by one, and resolves lost answers, in a part of the connections.

    Args:
        log: Where to; each call is a transaction.
        codec: For comparing an append with what is there.
        connections: How many connections the log has. A third of them, one at least, carry out; less than a third, none
            of three or fewer, wait in line.
    """

    def __init__(self, log: Log, codec: Codec, *, connections: int) -> None:
        super().__init__(log, codec)
        self._carrying_out = asyncio.Semaphore(max(1, connections // 3))
        self._free_to_wait = (connections - 1) // 3

    def begin_waiting(self) -> bool:
        """Take one of the connections that may wait for a held stream, if there is one; returns whether there was."""
        if self._free_to_wait == 0:
            return False
        self._free_to_wait -= 1
        return True

    def end_waiting(self) -> None:
        """Give it back."""
        self._free_to_wait += 1

    @override
    async def _once(self, request: AppendRequest) -> AppendResult:
        """Send an append, and again while its stream is held: then it has not happened.

        That holds also when an earlier call with the same append may still be alive, because that call either holds the
        stream itself, or will find there what this one appends.
        """
        backoff = Backoff(first=BUSY_SECONDS, most=_MOST_BUSY_SECONDS)
        while True:
            async with self._carrying_out:
                with suppress(StreamHeldError):
                    return await append_once(self._log, self._codec, request, wait=False)
            if self.begin_waiting():
                try:
                    return await append_once(self._log, self._codec, request)
                finally:
                    self.end_waiting()
            await backoff.wait()
