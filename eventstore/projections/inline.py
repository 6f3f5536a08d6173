"""Inline projections: the read model changes in the append's own transaction, so it is never behind."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from eventstore.db import DEFAULT_SCHEMA
from eventstore.db.errors import translated
from eventstore.projections.handling import handle_all
from eventstore.projections.projection import ProjectionContext
from eventstore.projections.read_model import ReadModel, set_search_path

if TYPE_CHECKING:
    from eventstore.codec import EventTypes
    from eventstore.db import Database
    from eventstore.events import RecordedEvent
    from eventstore.projections.projection import Projection
    from eventstore.store import HookContext


class InlineHook:
    """The append hook of an inline projection.

    Args:
        projection: The projection.
        types: The application's event types.
    """

    def __init__(self, projection: Projection, types: EventTypes) -> None:
        self._projection = projection
        self._read_model = ReadModel(projection)
        self._event_types = frozenset(projection.stored_names(types))

    @property
    def event_types(self) -> Collection[str]:
        """The stored names of the events it wants."""
        return self._event_types

    async def prepare(self, database: Database) -> None:
        """Make the tables if they are not there."""
        self._read_model = ReadModel(self._projection, store_schema=database.schema)
        await self._read_model.ensure(database)

    async def __call__(self, events: Sequence[RecordedEvent[Any]], context: HookContext) -> None:
        """Handle the events of one append, with bare table names meaning the read model's, and only for that long."""
        events = [event for event in events if self._projection.wants_stream(event.stream_id)]
        if not events:
            return
        connection = context.connection
        before = await connection.fetchval("SELECT current_setting('search_path')")
        await self._read_model.use(connection)
        await handle_all(self._projection, events, ProjectionContext(connection))
        with translated(DEFAULT_SCHEMA):  # a handler may have caught an error of PostgreSQL's, which ends all of it
            await set_search_path(connection, before)
