r"""The queue of a group commit: which appends go out together, without any I/O.

Appends wait by stream. A stream whose appends are on their way, or wait for somebody else's transaction, is *closed*:
what comes for it stays behind until it is *opened* again. So appends to one stream never overtake each other, while
those to others pass.

    put --> ready --take--> a batch, whose streams are closed now --open--> what stayed behind is ready
        \-its stream is closed--> behind ------------------------------------^
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from eventstore.events import AppendResult
    from eventstore.store.log import AppendRequest

BATCH_APPENDS: Final = 512
"""The most appends in one call: beyond it, a commit's share in an append's cost is noise."""

BATCH_BYTES: Final = 4 * 1024 * 1024
"""The most payload in one call, unless a single append has more: its neighbours should not wait for megabytes."""

_OVERHEAD: Final = 512
"""What an append weighs beside its payload, in bytes."""


class Pending:
    """An append that waits for its answer.

    Attributes:
        request: The append.
        answer: Set when it is known; cancelled when the caller has gone.
        weight: About how many bytes it holds in memory.
        is_sent: Whether it may have reached the server.
    """

    __slots__ = ("answer", "is_sent", "request", "weight")

    def __init__(self, request: AppendRequest, answer: asyncio.Future[AppendResult]) -> None:
        self.request = request
        self.answer = answer
        self.weight = sum([len(event.data) + len(event.metadata or "") for event in request.events], _OVERHEAD)
        self.is_sent = False


class AppendQueue:
    """Appends by stream, streams in the order in which they began to wait, and batches of them."""

    def __init__(self) -> None:
        # Each stream's appends are the keys of a dict: in their order, and whoever leaves is found at once.
        self._ready: dict[str, dict[Pending, None]] = {}
        self._behind: dict[str, dict[Pending, None]] = {}

    @property
    def ready(self) -> int:
        """How many streams have appends that can go out now."""
        return len(self._ready)

    @property
    def closed(self) -> int:
        """How many streams have appends on their way, or wait for somebody else's transaction."""
        return len(self._behind)

    def put(self, pending: Pending) -> None:
        """Add an append behind those to its stream."""
        stream_id = pending.request.stream_id
        behind = self._behind.get(stream_id)
        if behind is not None:
            behind[pending] = None
        elif (ready := self._ready.get(stream_id)) is not None:
            ready[pending] = None
        else:
            self._ready[stream_id] = {pending: None}

    def leave(self, pending: Pending) -> None:
        """Forget an append whose caller has gone: while its stream waits, nobody else would let go of its payload."""
        stream_id = pending.request.stream_id
        if stream_id in self._behind:
            self._behind[stream_id].pop(pending, None)
        elif stream_id in self._ready:
            self._ready[stream_id].pop(pending, None)
            if not self._ready[stream_id]:
                del self._ready[stream_id]

    def take(self, streams: int) -> list[Pending]:
        """Return the next batch, the appends to at most so many streams, and close those.

        All that waits for a stream goes together, as far as the batch's limits allow: callers that compete for it then
        meet each other, and nobody is always a batch too late. Appends whose callers have gone are dropped.
        """
        batch: list[Pending] = []
        weight = 0
        while self._ready and streams > 0 and len(batch) < BATCH_APPENDS and weight < BATCH_BYTES:
            stream_id = next(iter(self._ready))
            waiting = [pending for pending in self._ready.pop(stream_id) if not pending.answer.done()]
            if not waiting:
                continue
            count = 0
            for pending in _together(waiting[: BATCH_APPENDS - len(batch)]):
                if batch and weight + pending.weight > BATCH_BYTES:
                    weight = BATCH_BYTES
                    break
                weight += pending.weight
                batch.append(pending)
                count += 1
            if count == 0:
                self._ready = {stream_id: dict.fromkeys(waiting), **self._ready}
                break
            self._behind[stream_id] = dict.fromkeys(waiting[count:])
            streams -= 1
        return batch

    def open(self, stream_id: str) -> None:
        """Let a closed stream's appends go out again."""
        behind = self._behind.pop(stream_id)
        if behind:
            self._ready[stream_id] = behind

    def put_back(self, stream_id: str, pending: Sequence[Pending]) -> None:
        """Return a closed stream's appends to their place, the first among those that stayed behind."""
        here = [one for one in pending if not one.answer.done()]
        self._behind[stream_id] = dict.fromkeys([*here, *self._behind[stream_id]])


def _together(waiting: Sequence[Pending]) -> Sequence[Pending]:
    """Return how many of a stream's appends can share a call.

    One that looks up its ids is the only one to its stream: it has to see those before it, those after it have to see
    it, and a call's statements see only what was there when it began.
    """
    for count, pending in enumerate(waiting):
        if pending.request.look_up_ids:
            return waiting[: max(count, 1)]
    return waiting
