"""The repository of an aggregate class: load, save, and `execute`, which does both and retries."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from eventstore.aggregates.commands import append_decided, checked_command_id, earlier_result, run_command
from eventstore.aggregates.folding import load_as_of, load_many
from eventstore.errors import AggregateNotFoundError, InvalidArgumentError

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.aggregates.aggregate import Aggregate
    from eventstore.events import AppendResult
    from eventstore.metadata import Metadata
    from eventstore.store import Operations, Transaction

A = TypeVar("A", bound="Aggregate[Any, Any]")


class Repository(Generic[A]):
    """Loads and saves the aggregates of one class; `store.repository(Order)` gives it.

    Every method takes `tx=`: with it, it works inside that transaction.
    """

    def __init__(self, kind: type[A], operations: Operations) -> None:
        self._kind = kind
        self._operations = operations

    async def load(
        self,
        key: str,
        *,
        version: int | None = None,
        occurred_until: datetime | None = None,
        recorded_until: datetime | None = None,
        tx: Transaction | None = None,
    ) -> A:
        """Load an aggregate as it is now, or as it was; one that was loaded as it was cannot be saved.

        Its version is that of the last event of its stream (up to then), whether that is one of its own or not.

        Args:
            key: Which one.
            version: As it was at this version.
            occurred_until: As what had happened by this business time makes it.
            recorded_until: As it was known at this time.
            tx: The transaction to read in.

        Raises:
            AggregateNotFoundError: It has no events (up to then).
            InvalidStreamIdError: The key is none.
            CodecError: One of its events cannot be read.
        """
        aggregate = await self._load(key, version, occurred_until, recorded_until, tx)
        if aggregate.version == 0:
            raise AggregateNotFoundError(aggregate.stream_id)
        return aggregate

    async def load_or_new(self, key: str, *, tx: Transaction | None = None) -> A:
        """Load an aggregate, or return a new one, at version 0, when it has no events.

        Raises:
            InvalidStreamIdError: The key is none.
            CodecError: One of its events cannot be read.
        """
        return await self._load(key, None, None, None, tx)

    async def load_many(self, keys: Iterable[str], *, tx: Transaction | None = None) -> dict[str, A]:
        """Load many aggregates together: small ones in one round trip for some hundreds of them.

        Args:
            keys: Which ones; one that is named twice is loaded once.
            tx: The transaction to read in.

        Returns:
            The aggregates by their keys, in the keys' order, as each was at some moment of the call. Those that have
            no events are left out.

        Raises:
            InvalidStreamIdError: A key is none.
            CodecError: An event cannot be read.
        """
        shape = self._kind.shape
        streams = {key: shape.stream_id(key) for key in keys}
        loaded = await load_many(tx or self._operations, shape, streams.values())
        return {
            key: self._kind(key, folded.state, folded.version, folded.position)
            for key, stream_id in streams.items()
            if (folded := loaded.get(stream_id)) is not None
        }

    async def save(
        self, aggregate: A, *, metadata: Metadata | None = None, tx: Transaction | None = None
    ) -> AppendResult:
        """Append what the aggregate has emitted, if nobody else has appended since it was loaded.

        Saving an aggregate that emitted nothing succeeds, writes nothing, and returns its unchanged version.

        Raises:
            WrongExpectedVersionError: Somebody else came first; load it again and decide again.
            CodecError: An event cannot be stored.
            OutcomeUnknownError: The answer was lost.
        """
        return await self._save(aggregate, None, metadata, tx or self._operations)

    async def execute(
        self,
        key: str,
        command: Callable[[A], object | Awaitable[object]],
        *,
        command_id: str | UUID | None = None,
        metadata: Metadata | None = None,
        tx: Transaction | None = None,
    ) -> AppendResult:
        """Load an aggregate (or a new one), run a command on it and save it; after a conflict, all of it again.

        Args:
            key: Which one.
            command: Calls the aggregate's methods; it may run several times, so it has no other effects.
            command_id: Names this command: running it again returns the first result and changes nothing.
            metadata: What is recorded beside the events.
            tx: The transaction to work in.

        Raises:
            ConcurrencyError: It lost against other writers many times over.
            Exception: What the command itself raises; nothing is appended then.
        """
        operations = tx or self._operations
        named = checked_command_id(command_id)

        async def attempt() -> AppendResult:
            aggregate = await self._load(key, None, None, None, tx)
            done = await earlier_result(operations, aggregate.stream_id, aggregate.version, named)
            if done is not None:
                return done
            outcome = command(aggregate)
            if inspect.isawaitable(outcome):
                await outcome
            return await self._save(aggregate, named, metadata, operations)

        return await run_command(attempt, named, inside=tx is not None)

    async def exists(self, key: str, *, tx: Transaction | None = None) -> bool:
        """Whether the aggregate has events."""
        return await (tx or self._operations).stream_info(self._kind.shape.stream_id(key)) is not None

    async def _load(
        self,
        key: str,
        version: int | None,
        occurred_until: datetime | None,
        recorded_until: datetime | None,
        tx: Transaction | None,
    ) -> A:
        shape = self._kind.shape
        folded = await load_as_of(
            tx or self._operations,
            shape,
            shape.stream_id(key),
            version=version,
            occurred_until=occurred_until,
            recorded_until=recorded_until,
        )
        aggregate = self._kind(key, folded.state, folded.version, folded.position)
        bounds = (version, occurred_until, recorded_until)
        aggregate._historical = any(bound is not None for bound in bounds)  # noqa: SLF001 - as in `_save`
        return aggregate

    async def _save(
        self, aggregate: A, command_id: str | None, metadata: Metadata | None, operations: Operations
    ) -> AppendResult:
        if aggregate._historical and aggregate.pending:  # noqa: SLF001 - repository and aggregate are one thing
            raise InvalidArgumentError(f"{aggregate!r} was loaded as it was in the past: load it as it is to change it")
        result = await append_decided(
            operations,
            aggregate.stream_id,
            aggregate.version,
            aggregate.position,
            aggregate.pending,
            command_id=command_id,
            metadata=metadata,
        )
        aggregate.version, aggregate.position = result.stream_version, result.position
        aggregate._pending.clear()  # noqa: SLF001 - the same
        return result
