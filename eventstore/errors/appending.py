"""What an append, a load or a transaction can meet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.errors.tree import ConcurrencyError, EventStoreError, InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class InvalidStreamIdError(InvalidArgumentError):
    """A stream id is not of the form `category-key`; nothing was sent."""

    def __init__(self, stream_id: str, problem: str) -> None:
        self.stream_id = stream_id
        self.problem = problem
        shown = stream_id if len(stream_id) <= 80 else stream_id[:77] + "..."  # noqa: PLR2004 - a line's width
        super().__init__(f"invalid stream id {shown!r}: {problem}; use `category-key`, for example 'order-42'")


class EmptyAppendError(InvalidArgumentError):
    """An append without events means nothing; guard the call, or use a repository, where saving nothing is fine."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(f"no events to append to {stream_id!r}: pass at least one, or do not call append")


class SelfDeadlockError(InvalidArgumentError):
    """An append outside a transaction would wait for the stream that the same task's open transaction holds."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(
            f"{stream_id!r} is held by this task's open transaction, which has appended to it or tried to, so an "
            "append outside it would wait for itself: append through the transaction (tx.append), or after it"
        )


class AggregateNotFoundError(EventStoreError, LookupError):
    """No event of this aggregate exists; use `load_or_new` or `execute` where a new one is welcome."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(f"{stream_id!r} has no events: check the key, or use load_or_new() to start it")


class WrongExpectedVersionError(ConcurrencyError):
    """The stream is not at the version that the caller expected; nothing was appended."""

    def __init__(self, stream_id: str, expected: object, actual: int) -> None:
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{stream_id!r} is at version {actual}, not at the expected {expected}: nothing was appended; load it "
            "again and decide again"
        )


class TransactionConflictError(ConcurrencyError):
    """PostgreSQL ended the transaction in favour of another one (deadlock, serialisation); nothing of it happened."""


class TransactionAbortedError(EventStoreError):
    """A statement in the transaction failed and its error was caught: PostgreSQL has rolled everything back."""

    def __init__(self) -> None:
        super().__init__(
            "a statement in this transaction failed, so PostgreSQL rolled all of it back, appends included: put a "
            "savepoint (async with tx.connection.transaction()) around what may fail, and run the transaction again"
        )


class IdempotencyError(EventStoreError):
    """These event ids were appended before, with other content or in another place; nothing was appended."""

    def __init__(self, stream_id: str, event_ids: Sequence[UUID], problem: str) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        self.problem = problem
        super().__init__(
            f"event ids are already used in {stream_id!r}: {problem}; give a new fact new ids, and repeat an append "
            "only with the same events"
        )


class OutcomeUnknownError(EventStoreError):
    """The answer was lost after the events were sent, so they may be there or not.

    Append the same events with the same `event_ids` again: the store then returns the original result if they are
    there, and appends them if they are not.
    """

    retryable = True

    def __init__(self, stream_id: str, event_ids: Sequence[UUID], reason: str) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        self.reason = reason
        super().__init__(
            f"whether {len(self.event_ids)} event(s) were appended to {stream_id!r} is unknown ({reason}): append "
            "them again with the same event ids, the store finds out"
        )


class CommitOutcomeUnknownError(EventStoreError):
    """A transaction's COMMIT got no answer and it appended nothing that could be looked up: check its effects."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"whether the transaction committed is unknown ({reason}): look for its effects before you repeat it"
        )
