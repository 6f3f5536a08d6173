"""Append hooks: code that runs inside the append's transaction. Inline projections are built on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from eventstore.db import Connection, Database
    from eventstore.events import RecordedEvent


@dataclass(frozen=True, slots=True)
class HookContext:
    """What a hook may use.

    Attributes:
        connection: The connection of the append's transaction; what is written on it commits with the events.
    """

    connection: Connection


class AppendHook(Protocol):
    """Runs after the insert and before the commit; an exception undoes the append."""

    @property
    def event_types(self) -> Collection[str]:
        """The stored names of the events it wants; an append without any of them pays nothing."""
        ...

    async def prepare(self, database: Database) -> None:
        """Make what it needs, when a store is opened; safe from many processes at once."""
        ...

    async def __call__(self, events: Sequence[RecordedEvent[Any]], context: HookContext) -> None:
        """Handle the wanted events of one append, in order."""
        ...
