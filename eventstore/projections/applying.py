"""Applying events to a read model: handlers and the reader's own progress in one transaction, whatever feeds it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

from eventstore.codec import Selection
from eventstore.db import answering
from eventstore.errors import ClosedError, TooManyParkedStreamsError
from eventstore.projections.handling import handle_all
from eventstore.projections.parking import ParkedStreams
from eventstore.projections.projection import ProjectionContext
from eventstore.projections.read_model import ReadModel

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.db import Connection
    from eventstore.db.database import ConnectionSession
    from eventstore.projections.parking import Failure
    from eventstore.projections.projection import Projection
    from eventstore.store import EventStore

SessionHook = Callable[["ConnectionSession"], Awaitable[None]]
"""Writes the reader's progress, in the transaction that changes the read model; refuses by raising."""

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
        self.read_model = read_model or ReadModel(projection, store_schema=store.database.schema)
        self._rebuilding = rebuilding
        self._pages = store.codec.pages(Selection(projection.models, raw=False))
        self._connection: Connection | None = None
        self._generation = 0
        self._parks: bool | None = None

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
        self.forget_parked()
        async with database.dedicated() as connection:
            self._connection = connection
            try:
                yield self
            finally:
                self._connection = None

    def forget_parked(self) -> None:
        """Ask again whether streams are held back: somebody else has been at work in the meantime."""
        self._parks = None

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

        The progress comes first: it keeps whoever replays a parked stream out until the commit, so that what is held
        back is known for certain.

        Args:
            events: The events; those without a handler, or of a parked stream, are passed over.
            session_hook: Writes the progress.

        Raises:
            ProjectionFailedError: The handler of one event failed; its exception is the cause.
            StretchFailedError: Some of the events cannot be applied, and nothing says which.
            UnavailableError: The connection broke.
            TransactionConflictError: PostgreSQL ended the transaction in favour of another one.
            LeaseLostError: The tables were replaced by a rebuild: open the runner again.
            CodecError: An event cannot be read.
        """
        async with self.transaction() as session:
            async with answering():
                await session_hook(session)
                events = await self._not_held_back(session, events)
            await self.handle(session, events)

    async def park(self, event: StoredEvent, failure: Failure, *, limit: int, session_hook: SessionHook) -> None:
        """Hold an event and the rest of its stream back, and note the reader's progress, in one transaction.

        Raises:
            TooManyParkedStreamsError: So many streams are held back already as the policy allows.
        """
        async with self.transaction() as session, answering():
            await session_hook(session)
            streams = ParkedStreams(session, self.read_model.name)
            if await streams.count() >= limit:
                raise TooManyParkedStreamsError(self.projection.name, limit, event.stream_id, event.stream_version)
            await streams.park(event, failure)
        self._parks = True

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[ConnectionSession]:
        """Open a transaction in which the tables are not replaced, and bare names mean them.

        What lies before and behind the block is answered in time: nobody else may be there to find a dead connection.

        Raises:
            LeaseLostError: They were replaced by a rebuild: open the runner again.
            UnavailableError: There was no answer in time; should it have been committed, the noted place says so.
        """
        if self._connection is None:
            raise ClosedError("projection")
        async with AsyncExitStack() as stack:
            async with answering():
                session = await stack.enter_async_context(self.store.database.transaction_on(self._connection))
                await self.read_model.hold(session, self._generation)
            yield session
            async with answering():
                await stack.aclose()

    async def handle(self, session: ConnectionSession, events: Sequence[StoredEvent]) -> None:
        """Call the handlers of events, inside what `transaction` has opened.

        Raises:
            ProjectionFailedError, StretchFailedError, CodecError: As `apply` does.
        """
        decoded = self._pages.events(events)
        if decoded:
            context = ProjectionContext(session.connection, rebuilding=self._rebuilding)
            await handle_all(self.projection, decoded, context)

    async def _not_held_back(self, session: ConnectionSession, events: Sequence[StoredEvent]) -> Sequence[StoredEvent]:
        """Return the events whose streams are not parked.

        Only this runner parks streams of its share, and it moves its place when it does: where it knows of none, there
        is none, until another one has been at work.
        """
        if self._parks is False or not events:
            return events
        streams = ParkedStreams(session, self.read_model.name)
        if self._parks is None:
            self._parks = await streams.any()
            if not self._parks:
                return events
        held = await streams.among({event.stream_id for event in events})
        return [event for event in events if event.stream_id not in held] if held else events
