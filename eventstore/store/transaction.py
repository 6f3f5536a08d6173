"""Transactions: several appends and the caller's own SQL that commit together, explicit and never ambient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from eventstore.codec.selection import EVERYTHING
from eventstore.store.appending import InTransactionAppender
from eventstore.store.hooks import HookContext
from eventstore.store.operations import Operations

if TYPE_CHECKING:
    from uuid import UUID

    from pydantic import BaseModel

    from eventstore.codec import Codec
    from eventstore.db import Connection
    from eventstore.events import AppendResult, NewEvent
    from eventstore.metadata import Metadata
    from eventstore.store.hooks import AppendHook
    from eventstore.store.log import AppendRequest, Log
    from eventstore.streams import ExpectedVersion, StreamId


class Transaction(Operations):
    """An open transaction of a store: append and read in it, and run SQL of your own on `connection`.

    Only what is given this transaction is inside it. Results are provisional until it commits.

    Attributes:
        written: For each stream written here, the ids that were appended: how the outcome of a lost COMMIT is found.
        asked_for: The streams of all appends, refused ones too: their rows may be locked until the transaction ends.
    """

    def __init__(self, log: Log, codec: Codec, connection: Connection | None, hooks: Sequence[AppendHook]) -> None:
        super().__init__(log, codec)
        self._connection = connection
        self._hooks = hooks
        self._appender = InTransactionAppender(log, codec)
        self.written: dict[str, list[UUID]] = {}
        self.asked_for: set[str] = set()

    @property
    def connection(self) -> Connection:
        """The asyncpg connection of the transaction, for the caller's own SQL.

        Raises:
            AttributeError: The store is in memory, so there is no SQL.
        """
        if self._connection is None:
            raise AttributeError("an in-memory store has no connection: test this part with --eventstore=postgres")
        return self._connection

    async def append(
        self,
        stream_id: str | StreamId,
        events: Sequence[BaseModel | NewEvent],
        *,
        expected_version: int | ExpectedVersion,
        metadata: Metadata | None = None,
        timeout: float | None = None,  # noqa: ASYNC109, ARG002 - the transaction's owner bounds it as a whole
    ) -> AppendResult:
        """Append events inside the transaction; see `Operations.append`."""
        return await self.append_request(self._request(stream_id, events, expected_version, metadata))

    async def append_request(self, request: AppendRequest) -> AppendResult:
        """Append what is already encoded, and run the hooks that want it."""
        self.asked_for.add(request.stream_id)
        result = await self._appender.append(request)
        if not result.repeated:
            self.written.setdefault(request.stream_id, []).extend(result.event_ids)
            await self._run_hooks(request, result)
        return result

    async def _run_hooks(self, request: AppendRequest, result: AppendResult) -> None:
        names = {event.event_type for event in request.events}
        wanted = [hook for hook in self._hooks if not names.isdisjoint(hook.event_types)]
        if not wanted or self._connection is None:
            return
        stored = await self._log.events_by_ids(request.stream_id, result.event_ids)
        events: list[Any] = [event for row in stored for event in self._codec.decode(row, EVERYTHING)]
        context = HookContext(self._connection)
        for hook in wanted:
            await hook([event for event in events if event.event_type in hook.event_types], context)
