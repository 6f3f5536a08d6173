r"""Appending: what a call becomes, what the log's answer means, and how a lost answer is resolved.

An append is one call of the SQL function `append`, which is a transaction of its own on a pool. When the connection
breaks while it is under way, nobody knows whether it committed. Guessing is wrong both ways, and so is merely looking:
the old transaction may still be alive and commit later. So the same append, with the same ids, is repeated on a new
connection: as long as the old transaction holds the stream's row, the repetition waits or is answered `busy`, and then
the ids are there or they are not.

    sent --answer--> appended | wrong version | ids known --compare--> the original result | IdempotencyError
      \--connection lost--> repeat with a look for the ids (bounded) --> as above
                              \--still no answer--> OutcomeUnknownError

Only the log itself knows. That PostgreSQL refuses the user by now, or the statement, says nothing of the first call.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

from eventstore.db import ConnectionLostError
from eventstore.db.errors import DuplicateError
from eventstore.errors import (
    ClosedError,
    IdempotencyError,
    OutcomeUnknownError,
    TransactionConflictError,
    WrongExpectedVersionError,
)
from eventstore.events import AppendResult, Position
from eventstore.lifecycle import Backoff

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventstore.codec import Codec, StoredEvent
    from eventstore.store.log import AppendOutcome, AppendRequest, Log

T = TypeVar("T")

_CONFLICT_ATTEMPTS: Final = 5
_EVENT_ID_KEY: Final = "events_event_id_key"
RESOLVE_SECONDS: Final = 10.0
"""How long a lost answer is asked for again before `OutcomeUnknownError`."""


class Appender(Protocol):
    """The way of a store's requests to the log: each by itself, or together with others (`grouping`)."""

    async def append(self, request: AppendRequest, timeout: float | None) -> AppendResult:  # noqa: ASYNC109 - see there
        """Append, or raise what the log answered.

        Raises:
            OutcomeUnknownError: No answer came within `timeout` seconds.
            UnavailableError: The same, and it had not been sent: nothing was appended.
        """
        ...

    async def drain(self, seconds: float) -> None:
        """Wait until everything that was accepted has been answered, or tell those who wait that time is over."""
        ...


class StreamHeldError(Exception):
    """Another transaction holds the stream: nothing was appended, try again later."""


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

    async def append(self, request: AppendRequest, timeout: float | None = None) -> AppendResult:  # noqa: ASYNC109 - see `Appender`
        """Append, and find out the truth when the answer is lost.

        Raises:
            WrongExpectedVersionError: The stream is elsewhere.
            IdempotencyError: The ids were used for something else.
            OutcomeUnknownError: The answer was lost and nobody could be asked in time.
            UnavailableError: Nothing was sent.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._append(request)
        except TimeoutError:
            raise no_answer(request, f"no answer within {timeout} s") from None

    async def drain(self, seconds: float) -> None:
        """Do nothing: each caller waits for its own append."""

    async def _append(self, request: AppendRequest) -> AppendResult:
        try:
            return await run_again(lambda: self._once(request))
        except ConnectionLostError as error:
            return await self.resolve(request, str(error))

    async def _once(self, request: AppendRequest) -> AppendResult:
        """Carry out an append in a transaction of its own."""
        return await append_once(self._log, self._codec, request)

    async def resolve(self, request: AppendRequest, reason: str, until: float | None = None) -> AppendResult:
        """Find out whether an append happened whose answer was lost, by sending it again with the same ids.

        Whatever else than an answer of the log comes back, it is asked again.

        Args:
            request: The append.
            reason: Why its answer was lost.
            until: When to give up, by the loop's clock; those whose answers were lost together give up together.

        Raises:
            OutcomeUnknownError: Nobody could be asked in time.
            WrongExpectedVersionError: The stream is elsewhere: it has not happened.
            IdempotencyError: The ids were used for something else: it has not happened.
        """
        request = request._replace(look_up_ids=True)
        backoff = Backoff(first=0.05, most=1.0)
        try:
            async with asyncio.timeout_at(until or give_up_at()):
                while True:
                    try:
                        return await self._once(request)
                    except (WrongExpectedVersionError, IdempotencyError, ClosedError):
                        raise
                    except Exception:  # noqa: BLE001 - no answer, whatever it is
                        await backoff.wait()
        except (TimeoutError, ClosedError):  # closed meanwhile: nobody can be asked any more
            raise no_answer(request, reason) from None


def give_up_at() -> float:
    """Return when an answer that is lost now is asked for no longer, by the loop's clock."""
    return asyncio.get_running_loop().time() + RESOLVE_SECONDS


def no_answer(request: AppendRequest, reason: str) -> OutcomeUnknownError:
    """Return what a caller is told whose append was sent and not answered."""
    return OutcomeUnknownError(request.stream_id, [event.event_id for event in request.events], reason)


async def run_again(transaction: Callable[[], Awaitable[T]]) -> T:
    """Run a transaction of our own, and again when PostgreSQL ended it in favour of another one (a deadlock).

    Raises:
        TransactionConflictError: It was ended every time.
    """
    for _ in range(_CONFLICT_ATTEMPTS - 1):
        with suppress(TransactionConflictError):
            return await transaction()
    return await transaction()


async def append_once(log: Log, codec: Codec, request: AppendRequest, *, wait: bool = True) -> AppendResult:
    """Send an append and say what the answer means.

    Args:
        log: Where to.
        codec: For comparing the append with what is there.
        request: The append.
        wait: Whether to wait for a stream that another transaction holds.

    Raises:
        StreamHeldError: Another transaction holds the stream, and it is not to be waited for.
        EventStoreError: As `InTransactionAppender.append`.
    """
    try:
        (outcome,) = await log.append([request], wait=wait)
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
    if outcome.kind == "busy" and not wait:
        raise StreamHeldError
    if outcome.kind == "busy":  # begun by another transaction between two statements: now there is a row to wait for
        return await append_once(log, codec, request)
    return appended(request, outcome)


def appended(request: AppendRequest, outcome: AppendOutcome) -> AppendResult:
    """Return the result of an append that the log has carried out."""
    assert outcome.position is not None  # noqa: S101 - what `appended` means
    first_version = outcome.version - len(request.events) + 1
    ids = tuple([event.event_id for event in request.events])
    return AppendResult(request.stream_id, first_version, outcome.version, Position(outcome.position), ids)


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
