r"""Appending: what a call becomes, what the log's answer means, and how a lost answer is resolved.

An append is one call of the SQL function `append`, which is a transaction of its own on a pool. When the connection
breaks while it is under way, nobody knows whether it committed. Guessing is wrong both ways, and so is merely looking:
the old transaction may still be alive and commit later. So the same append, with the same ids, is repeated on a new
connection: the stream's row lock makes it wait for the old transaction, and then the ids are there or they are not.

    sent --answer--> appended | wrong version | ids known --compare--> the original result | IdempotencyError
      \--connection lost--> repeat with a look for the ids (bounded) --> as above
                              \--still no answer--> OutcomeUnknownError
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from eventstore.db import ConnectionLostError
from eventstore.db.errors import DuplicateError
from eventstore.errors import (
    IdempotencyError,
    OutcomeUnknownError,
    TransactionConflictError,
    UnavailableError,
    WrongExpectedVersionError,
)
from eventstore.events import AppendResult, Position
from eventstore.lifecycle import Backoff

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstore.codec import Codec, EncodedEvent, StoredEvent
    from eventstore.store.log import AppendOutcome, Log
    from eventstore.streams import ExpectedVersion

_CONFLICT_ATTEMPTS: Final = 5
_EVENT_ID_KEY: Final = "events_event_id_key"
RESOLVE_SECONDS: Final = 10.0
"""How long a lost answer is asked for again before `OutcomeUnknownError`."""


class AppendRequest(NamedTuple):
    """An append, checked and encoded.

    Attributes:
        stream_id: The stream.
        expected: What the caller expects, as it was given.
        expected_wire: The same, as the log takes it.
        events: The encoded events.
        look_up_ids: Whether the ids may be in the stream already.
    """

    stream_id: str
    expected: int | ExpectedVersion
    expected_wire: int
    events: Sequence[EncodedEvent]
    look_up_ids: bool


class Appender(Protocol):
    """The way of requests to the log: today each by itself; a group commit takes the same place."""

    async def append(self, request: AppendRequest) -> AppendResult:
        """Append, or raise what the log answered."""
        ...


class InTransactionAppender:
    """Appends inside somebody's transaction: nothing is repeated, the transaction's owner decides."""

    def __init__(self, log: Log, codec: Codec) -> None:
        self._log = log
        self._codec = codec

    async def append(self, request: AppendRequest) -> AppendResult:
        """Append once.

        Raises:
            WrongExpectedVersionError: The stream is elsewhere; the transaction can go on.
            IdempotencyError: The ids were used for something else; the transaction can go on.
            TransactionConflictError: The transaction saw an old version of the stream and must be run again.
        """
        return await append_once(self._log, self._codec, request)


class DirectAppender:
    """Appends each request in a transaction of its own, and resolves lost answers."""

    def __init__(self, log: Log, codec: Codec) -> None:
        self._log = log
        self._codec = codec

    async def append(self, request: AppendRequest) -> AppendResult:
        """Append, and find out the truth when the answer is lost.

        Raises:
            WrongExpectedVersionError: The stream is elsewhere.
            IdempotencyError: The ids were used for something else.
            OutcomeUnknownError: The answer was lost and nobody could be asked in time.
            UnavailableError: Nothing was sent.
        """
        conflicts = 0
        while True:
            try:
                return await append_once(self._log, self._codec, request)
            except TransactionConflictError:
                conflicts += 1
                if conflicts == _CONFLICT_ATTEMPTS:
                    raise
            except ConnectionLostError as error:
                return await self._resolve(request._replace(look_up_ids=True), str(error))

    async def _resolve(self, request: AppendRequest, reason: str) -> AppendResult:
        backoff = Backoff(first=0.05, most=1.0)
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                while True:
                    try:
                        return await append_once(self._log, self._codec, request)
                    except (UnavailableError, TransactionConflictError):
                        await backoff.wait()
        except TimeoutError:
            ids = [event.event_id for event in request.events]
            raise OutcomeUnknownError(request.stream_id, ids, reason) from None


async def append_once(log: Log, codec: Codec, request: AppendRequest) -> AppendResult:
    """Send an append and say what the answer means."""
    try:
        outcome = await log.append(
            request.stream_id, request.expected_wire, request.events, look_up_ids=request.look_up_ids
        )
    except DuplicateError as error:
        if error.constraint == _EVENT_ID_KEY and not request.look_up_ids:
            ids = [event.event_id for event in request.events]
            raise IdempotencyError(request.stream_id, ids, "the id generator gave one that was used before") from None
        # Only a transaction that began before the last append (REPEATABLE READ) reads a stale version.
        raise TransactionConflictError(
            f"{request.stream_id!r} was appended to after this transaction's snapshot: run the transaction again"
        ) from None
    if outcome.kind == "ids_known":
        known = await log.events_by_ids(request.stream_id, [event.event_id for event in request.events])
        return _original_result(codec, request, known)
    if outcome.kind == "wrong_version":
        raise WrongExpectedVersionError(request.stream_id, request.expected, outcome.version)
    return _appended(request, outcome)


def _appended(request: AppendRequest, outcome: AppendOutcome) -> AppendResult:
    assert outcome.position is not None  # noqa: S101 - what `appended` means
    return AppendResult(
        stream_id=request.stream_id,
        first_version=outcome.version - len(request.events) + 1,
        stream_version=outcome.version,
        position=Position(outcome.position),
        event_ids=tuple(event.event_id for event in request.events),
    )


def _original_result(codec: Codec, request: AppendRequest, known: list[StoredEvent]) -> AppendResult:
    """Return what the first append of these events returned, if they are the same events in the same place."""
    ids = [event.event_id for event in request.events]
    if len(known) < len(ids):
        raise IdempotencyError(request.stream_id, ids, f"{len(known)} of {len(ids)} were appended before, not all")
    first = known[0].stream_version
    if [row.event_id for row in known] != ids or known[-1].stream_version != first + len(ids) - 1:
        raise IdempotencyError(request.stream_id, ids, "they were appended in another order, or not together")
    changed = [
        row.stream_version for new, row in zip(request.events, known, strict=True) if not codec.same_content(new, row)
    ]
    if changed:
        raise IdempotencyError(request.stream_id, ids, f"version {changed[0]} has other content")
    return AppendResult(
        stream_id=request.stream_id,
        first_version=first,
        stream_version=known[-1].stream_version,
        position=Position(known[-1].position),
        event_ids=tuple(ids),
        repeated=True,
    )
