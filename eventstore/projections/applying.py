"""Applying events to a read model: handlers and the reader's own progress in one transaction, whatever feeds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from eventstore.codec import Selection
from eventstore.db.errors import passing_failure, translated
from eventstore.errors import ClosedError, ProjectionFailedError, TransactionConflictError, UnavailableError
from eventstore.metadata import caused_by
from eventstore.projections.projection import ProjectionContext
from eventstore.projections.read_model import ReadModel

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.db import Connection
    from eventstore.db.database import ConnectionSession
    from eventstore.events import RecordedEvent
    from eventstore.projections.projection import Projection
    from eventstore.store import EventStore

SessionHook = Callable[["ConnectionSession"], Awaitable[None]]
"""Writes the reader's progress, in the transaction that changes the read model."""

Begin = Callable[["ConnectionSession"], Awaitable[bool]]
"""Writes where a new reader begins; returns False, and writes nothing, if it had begun already."""


class ProjectionRunner:
    """Applies stored events to the tables of a projection.

    Args:
        store: The store whose events they are.
        projection: What to do with each event.
        read_model: The tables; the projection's own when left out.
        rebuilding: What handlers are told.
    """

    def __init__(
        self,
        store: EventStore,
        projection: Projection,
        *,
        read_model: ReadModel | None = None,
        rebuilding: bool = False,
    ) -> None:
        self.store = store
        self.projection = projection
        self.read_model = read_model or ReadModel(projection)
        self._rebuilding = rebuilding
        self._selection = Selection(projection.models, raw=False)
        self._connection: Connection | None = None
        self._generation = 0

    @property
    def consumer_name(self) -> str:
        """The name of the projection's checkpoint, lease and Kafka group."""
        return self.projection.consumer_name

    @property
    def event_types(self) -> list[str]:
        """The stored names of the events it wants."""
        return self.projection.stored_names(self.store.event_types)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[ProjectionRunner]:
        """Make sure that the tables are there, and hold a connection of our own for the length of the block."""
        database = self.store.database
        self._generation = await self.read_model.ensure(database)
        async with database.dedicated() as connection:
            self._connection = connection
            try:
                yield self
            finally:
                self._connection = None

    async def take_over(self, begin: Begin) -> None:
        """Become one of those who feed the tables; if that is new, whoever fed them otherwise is fenced out.

        Args:
            begin: Writes where to begin, while nobody applies anything.
        """
        async with self.store.database.transaction() as session:
            generation = await self.read_model.seize(session)
            if await begin(session):
                generation = await self.read_model.note_replaced(session)
        self._generation = generation

    async def apply(self, events: Sequence[StoredEvent], *, session_hook: SessionHook) -> None:
        """Apply events in order and note the reader's progress, in one transaction: all of it happens, or nothing.

        Args:
            events: The events; those without a handler are passed over.
            session_hook: Writes the progress; it may refuse by raising.

        Raises:
            ProjectionFailedError: A handler failed; its exception is the cause.
            UnavailableError: The connection broke.
            TransactionConflictError: PostgreSQL ended the transaction in favour of another one.
            LeaseLostError: The tables were replaced by a rebuild: open the runner again.
            CodecError: An event cannot be read.
        """
        if self._connection is None:
            raise ClosedError("projection")
        async with self.store.database.transaction_on(self._connection) as session:
            await self.read_model.hold(session, self._generation)
            with translated(session.queries.schema):
                await self.read_model.use(session.connection)
            context = ProjectionContext(session.connection, rebuilding=self._rebuilding)
            for stored in events:
                for event in self.store.codec.decode(stored, self._selection):
                    await handle(self.projection, event, context)
            await session_hook(session)


async def handle(projection: Projection, event: RecordedEvent[Any], context: ProjectionContext) -> None:
    """Call the handler of an event; what it appends is caused by the event.

    Raises:
        ProjectionFailedError: The handler failed; its exception is the cause.
        UnavailableError: The connection broke while the handler ran.
        TransactionConflictError: PostgreSQL ended the transaction in favour of another one.
    """
    handler = projection.handler(type(event.data))
    if handler is None:
        return
    try:
        with caused_by(str(event.event_id), event.metadata):
            await handler(event, context)
    except (UnavailableError, TransactionConflictError):
        raise
    except Exception as error:
        if (passing := passing_failure(error, context.connection)) is not None:
            raise passing from None
        raise ProjectionFailedError(
            projection.name, event.event_type, event.stream_id, event.stream_version, type(error).__qualname__
        ) from error
