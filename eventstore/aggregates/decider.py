"""The functional style: pure functions `decide` and `evolve`, and no class."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import BaseModel
from typing_extensions import TypeForm

from eventstore.aggregates.commands import append_decided, checked_command_id, earlier_result, run_command
from eventstore.aggregates.folding import Folded, Shape, load_as_of, load_many
from eventstore.errors import AggregateNotFoundError
from eventstore.events import NewEvent

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID

    from eventstore.events import AppendResult
    from eventstore.metadata import Metadata
    from eventstore.store import Operations, Transaction

C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E", bound=BaseModel)


@dataclass(frozen=True)
class Decider(Generic[C, S, E]):
    """An aggregate as two pure functions.

    Attributes:
        category: The category of its streams.
        events: Its events: one model, or a union.
        initial: Makes the state before the first event; usually the state's class.
        decide: Says what happens when a command meets a state: events, or none; raises when the rules forbid it.
        evolve: Returns the state after an event.
        snapshot_version: Raise it when `evolve` changes its meaning, so that older snapshots are not used.
    """

    category: str
    events: TypeForm[E]
    initial: Callable[[], S]
    decide: Callable[[C, S], Sequence[E | NewEvent]]
    evolve: Callable[[S, E], S]
    snapshot_version: int = 1

    @cached_property
    def shape(self) -> Shape[S]:
        """How its streams fold."""
        state_type = self.initial if isinstance(self.initial, type) else type(self.initial())
        return Shape(self.category, state_type, self.initial, self.evolve, self.events, self.snapshot_version)

    def __repository__(self, operations: Operations) -> DeciderRepository[C, S, E]:
        return DeciderRepository(self, operations)


class DeciderRepository(Generic[C, S, E]):
    """Loads states and runs commands for one decider; `store.repository(order)` gives it."""

    def __init__(self, decider: Decider[C, S, E], operations: Operations) -> None:
        self._decider = decider
        self._operations = operations

    async def load(
        self,
        key: str,
        *,
        version: int | None = None,
        occurred_until: datetime | None = None,
        recorded_until: datetime | None = None,
        tx: Transaction | None = None,
    ) -> Folded[S]:
        """Load a state with its version, as it is now or as it was; see `Repository.load`.

        Raises:
            AggregateNotFoundError: There are no events (up to then).
        """
        operations, shape = tx or self._operations, self._decider.shape
        stream_id = shape.stream_id(key)
        folded = await load_as_of(
            operations,
            shape,
            stream_id,
            version=version,
            occurred_until=occurred_until,
            recorded_until=recorded_until,
        )
        if folded.version == 0:
            raise AggregateNotFoundError(stream_id)
        return folded

    async def load_many(self, keys: Iterable[str], *, tx: Transaction | None = None) -> dict[str, Folded[S]]:
        """Load many states together; see `Repository.load_many`. Those without events are left out."""
        shape = self._decider.shape
        streams = {key: shape.stream_id(key) for key in keys}
        loaded = await load_many(tx or self._operations, shape, streams.values())
        return {key: loaded[stream_id] for key, stream_id in streams.items() if stream_id in loaded}

    async def execute(
        self,
        key: str,
        command: C,
        *,
        command_id: str | UUID | None = None,
        metadata: Metadata | None = None,
        tx: Transaction | None = None,
    ) -> AppendResult:
        """Load the state, decide, and append what was decided; after a conflict, all of it again.

        Args:
            key: Which aggregate.
            command: What `decide` takes.
            command_id: Names this command: running it again returns the first result and changes nothing.
            metadata: What is recorded beside the events.
            tx: The transaction to work in.

        Raises:
            ConcurrencyError: It lost against other writers many times over.
            Exception: What `decide` raises; nothing is appended then.
        """
        operations, shape = tx or self._operations, self._decider.shape
        stream_id, named = shape.stream_id(key), checked_command_id(command_id)

        async def attempt() -> AppendResult:
            folded = await load_as_of(operations, shape, stream_id)
            done = await earlier_result(operations, stream_id, folded.version, named)
            if done is not None:
                return done
            decided: list[Any] = [
                event if isinstance(event, NewEvent) else NewEvent(event)
                for event in self._decider.decide(command, folded.state)
            ]
            return await append_decided(
                operations, stream_id, folded.version, folded.position, decided, command_id=named, metadata=metadata
            )

        return await run_command(attempt, named, inside=tx is not None)
