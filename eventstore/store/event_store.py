"""`EventStore`: the one type that services annotate with, whatever the log underneath is."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

from typing_extensions import TypeForm

from eventstore.clock import system_clock, uuid7
from eventstore.codec import Codec
from eventstore.codec.payload import MAX_PAYLOAD_BYTES
from eventstore.db import (
    DEFAULT_SCHEMA,
    ConnectionLostError,
    Database,
    require_current_schema,
    require_durable_server,
)
from eventstore.db.database import POOL_TIMEOUT
from eventstore.errors import (
    ClosedError,
    ConfigurationError,
    InvalidArgumentError,
    SelfDeadlockError,
    UnavailableError,
)
from eventstore.store.appending import no_answer, run_again
from eventstore.store.awaiting import Awaited
from eventstore.store.operations import Operations
from eventstore.store.postgres import PostgresBackend, PostgresLog
from eventstore.store.transaction import Transaction

if TYPE_CHECKING:
    import asyncpg
    from pydantic import BaseModel

    from eventstore.clock import Clock, IdGenerator
    from eventstore.codec import EventTypes
    from eventstore.db import Connection
    from eventstore.events import AppendResult, NewEvent, Position, RecordedEvent
    from eventstore.metadata import Metadata
    from eventstore.store.awaiting import Projected
    from eventstore.store.hooks import AppendHook
    from eventstore.store.log import AppendRequest, Backend
    from eventstore.streams import ExpectedVersion, StreamId
    from eventstore.subscriptions import Following, SubscriptionReader
    from eventstore.subscriptions.starting import Start

T = TypeVar("T")

DRAIN_SECONDS: Final = 10.0
"""How long a store that is closed waits for the answers to appends that are under way."""


class StoreDeclaration(Protocol):
    """What a store needs to know of an application: its event types, and what runs inside its appends."""

    @property
    def events(self) -> EventTypes:
        """The registered event types."""
        ...

    def append_hooks(self) -> Sequence[AppendHook]:
        """Return what runs inside the append's transaction."""
        ...

    def projection(self, name: str) -> Projected:
        """Return a projection by its name."""
        ...


class EventStore(Operations):
    """Streams of versioned events in PostgreSQL, with optimistic concurrency.

    Example:
        async with EventStore.open("postgresql://localhost/shop", app) as store:
            await store.append("order-42", [OrderPlaced(sku="tea", quantity=2)], expected_version=NO_STREAM)
    """

    def __init__(
        self,
        backend: Backend,
        codec: Codec,
        *,
        hooks: Sequence[AppendHook] = (),
        declaration: StoreDeclaration | None = None,
    ) -> None:
        super().__init__(backend.log, codec)
        self._backend = backend
        self._hooks = hooks
        self._declaration = declaration
        self.hooked_types = frozenset(name for hook in hooks for name in hook.event_types)
        """The stored names of the events that something handles inside their append, such as inline projections."""
        self._appender = backend.appender(codec)
        self._open_transactions: dict[asyncio.Task[Any] | None, list[Transaction]] = {}
        self._is_open = True

    @staticmethod
    @asynccontextmanager
    async def open(
        source: str | asyncpg.Pool,
        app: StoreDeclaration,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 10,
        pool_timeout: float = POOL_TIMEOUT,
        pgbouncer: bool = False,
        max_payload: int = MAX_PAYLOAD_BYTES,
        clock: Clock = system_clock,
        new_id: IdGenerator = uuid7,
    ) -> AsyncIterator[EventStore]:
        """Open a store for the length of an `async with` block.

        Args:
            source: A DSN, or an existing asyncpg pool, which is neither closed nor reconfigured.
            app: The application, whose event types the store reads and writes.
            schema: The PostgreSQL schema that holds the store.
            pool_size: The largest number of connections when a DSN is given, at least 2.
            pool_timeout: How long, in seconds, a call waits for a free connection before it raises `UnavailableError`.
            pgbouncer: Set it when PgBouncer in transaction mode is in between.
            max_payload: The largest event, in bytes of JSON.
            clock: Gives `occurred_at` to events that come without one.
            new_id: Gives ids to events that come without one.

        Raises:
            InvalidDsnError: The DSN cannot be parsed (it is never shown).
            UnavailableError: The database cannot be reached.
            SchemaError: The schema is not migrated, is newer than the code, or the server is too old.
            UnsafeServerError: The server can lose what it has acknowledged; see `db.durability`.
            ConfigurationError: The database's encoding is not UTF8, or the pool's codecs would change events.
        """
        async with Database(
            source, schema=schema, pool_size=pool_size, pool_timeout=pool_timeout, pgbouncer=pgbouncer
        ) as database:
            await require_current_schema(database)
            await require_durable_server(database)
            codec = Codec(app.events, clock=clock, new_id=new_id, max_payload=max_payload)
            hooks = app.append_hooks()
            for hook in hooks:
                await hook.prepare(database)
            store = EventStore(PostgresBackend(database), codec, hooks=hooks, declaration=app)
            try:
                yield store
            finally:
                store.close()
                await store._appender.drain(DRAIN_SECONDS)

    @property
    def database(self) -> Database:
        """The store's way to PostgreSQL, for the framework's own workers.

        Raises:
            ConfigurationError: The store is in memory.
        """
        database = self._backend.database
        if database is None:
            raise ConfigurationError("this store is in memory: workers need one that was opened on PostgreSQL")
        return database

    def close(self) -> None:
        """Refuse further calls; the block that opened the store closes its connections."""
        self._is_open = False
        self._backend.close()

    def __repr__(self) -> str:
        return f"EventStore({self._backend.database or 'in memory'})"

    async def append(
        self,
        stream_id: str | StreamId,
        events: Sequence[BaseModel | NewEvent],
        *,
        expected_version: int | ExpectedVersion,
        metadata: Metadata | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the public contract: a time-out has an outcome to report
    ) -> AppendResult:
        """Append events to a stream, all or none; see `Operations.append`."""
        request = self._request(stream_id, events, expected_version, metadata)
        _check_timeout(timeout)
        self._check_open(request.stream_id)
        if not self.hooked_types or self.hooked_types.isdisjoint([event.event_type for event in request.events]):
            result = await self._appender.append(request, timeout)
        else:
            try:
                async with asyncio.timeout(timeout):
                    result = await run_again(lambda: self._append_with_hooks(request))
            except TimeoutError:
                raise no_answer(request, f"no answer within {timeout} s") from None
        self._log.wakeup.wake()
        return result

    async def _append_with_hooks(self, request: AppendRequest) -> AppendResult:
        async with self.transaction() as tx:
            return await tx.append_request(request)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction: its appends and the caller's own SQL on `tx.connection` commit together at the end.

        A lost answer to COMMIT is resolved: the block returns when it committed, and raises when it did not.

        Raises:
            UnavailableError: The connection broke and the transaction was rolled back; nothing of it happened.
            OutcomeUnknownError: The answer to COMMIT was lost and the database could not be asked in time.
            CommitOutcomeUnknownError: The same, and the transaction appended nothing that could be looked up.
            TransactionConflictError: PostgreSQL ended it in favour of another one: run it again.
        """
        self._check_open(None)
        tx: Transaction | None = None
        finished = False
        try:
            async with self._backend.begin() as (log, connection):
                tx = Transaction(log, self._codec, connection, self._hooks)
                with self._noted(tx):
                    yield tx
                finished = True
        except ConnectionLostError as error:
            if not finished or tx is None:
                raise
            if not await self._backend.has_committed(tx.written, str(error)):
                raise UnavailableError(f"{error}; the transaction was rolled back: run it again") from None
        if tx is not None and tx.written:
            self._log.wakeup.wake()

    @asynccontextmanager
    async def bind(self, connection: Connection) -> AsyncIterator[Transaction]:
        """Append and read inside a transaction that the caller began on a connection of their own.

        Raises:
            InvalidArgumentError: The connection is none, or not in a transaction, or no longer when it is used: what it
                wrote would commit at once.
        """
        if not hasattr(connection, "is_in_transaction"):
            raise InvalidArgumentError(f"bind takes an asyncpg connection, not {type(connection).__qualname__}")
        self._check_open(None)
        session = self.database.session(connection)
        session.require_transaction()
        tx = Transaction(PostgresLog(session), self._codec, connection, self._hooks)
        try:
            with self._noted(tx):
                yield tx
        finally:
            session.is_open = False

    # --- following the log -------------------------------------------------------------------------------------------

    @overload
    def subscription(
        self,
        name: str,
        *,
        start: Start,
        of: None = None,
        categories: Sequence[str] | None = ...,
        where: Callable[[RecordedEvent[Any]], bool] | None = ...,
        batch: int = ...,
    ) -> SubscriptionReader[Any]: ...

    @overload
    def subscription(
        self,
        name: str,
        *,
        start: Start,
        of: TypeForm[T],
        categories: Sequence[str] | None = ...,
        where: Callable[[RecordedEvent[T]], bool] | None = ...,
        batch: int = ...,
    ) -> SubscriptionReader[T]: ...

    def subscription(
        self,
        name: str,
        *,
        start: Start,
        of: Any = None,
        categories: Sequence[str] | None = None,
        where: Callable[[RecordedEvent[Any]], bool] | None = None,
        batch: int = 500,
    ) -> SubscriptionReader[Any]:
        """Read the log under a name that remembers how far it has come; see `SubscriptionReader`.

        Args:
            name: The name. One reader at a time has its turn, others wait.
            start: Where a name begins that has no checkpoint yet: `BEGINNING`, `END`, a `Position` (it is read after),
                or `recorded_from(time)`. There is no default: one of them would always be wrong for somebody.
            of: The models wanted, as in `read_stream`.
            categories: Only streams of these categories.
            where: Only events of which this is true; asked of the decoded event.
            batch: How many events to look at in one batch.

        Raises:
            InvalidArgumentError: An argument is not what it must be.
        """
        subscriptions = _subscriptions()
        interest = subscriptions.interest.Interest.of(self._codec, of, categories=categories, where=where)
        made: SubscriptionReader[Any] = subscriptions.SubscriptionReader(
            self._log, name, interest, start=start, batch=batch
        )
        return made

    @overload
    def follow(
        self,
        *,
        start: Start,
        of: None = None,
        categories: Sequence[str] | None = ...,
        where: Callable[[RecordedEvent[Any]], bool] | None = ...,
    ) -> Following[Any]: ...

    @overload
    def follow(
        self,
        *,
        start: Start,
        of: TypeForm[T],
        categories: Sequence[str] | None = ...,
        where: Callable[[RecordedEvent[T]], bool] | None = ...,
    ) -> Following[T]: ...

    def follow(
        self,
        *,
        start: Start,
        of: Any = None,
        categories: Sequence[str] | None = None,
        where: Callable[[RecordedEvent[Any]], bool] | None = None,
    ) -> Following[Any]:
        """Read the log from a start on, and then what comes, without a name: nothing is remembered.

        Args:
            start: Where to begin, as in `subscription`.
            of: The models wanted, as in `read_stream`.
            categories: Only streams of these categories.
            where: Only events of which this is true; asked of the decoded event.

        Raises:
            InvalidArgumentError: An argument is not what it must be.
        """
        subscriptions = _subscriptions()
        interest = subscriptions.interest.Interest.of(self._codec, of, categories=categories, where=where)
        made: Following[Any] = subscriptions.Following(self._log, interest, start=start)
        return made

    def wake(self) -> None:
        """Let those who follow the log through this store look for events now, and not with their next poll.

        The store's own appends do it. Call it when you hear of others: from a LISTEN on a channel of your own, say, to
        which a process beside the writers sends. NOTIFY inside the append's transaction would make all of them commit
        one after the other.
        """
        self._log.wakeup.wake()

    async def wait_for(
        self,
        projection: Projected | str,
        position: Position,
        *,
        within: float | None = None,
        stream_id: str | StreamId | None = None,
    ) -> None:
        """Return once a projection has applied everything up to a position, in whatever process its worker runs.

        Behind Kafka it is known of the event at the position, and of all before it in its stream.

        Args:
            projection: The projection, or its name.
            position: The position, such as that of an append's result.
            within: How many seconds to wait; for ever when left out, which it takes where no worker runs.
            stream_id: A stream that is to be in the read model as a whole, and not held back; the one of the event at
                the position need not be named.

        Raises:
            NotCaughtUpError: It took longer; the worker, if there is one, goes on.
            ParkedStreamError: The stream is held back, because one of its events could not be applied.
            WaitsForItselfError: This task's open transaction has appended: until it has committed, nobody comes there.
            ConfigurationError: The application has no projection of this name, or the store is in memory.
        """
        self._check_open(None)
        database = self.database
        if isinstance(projection, str):
            if self._declaration is None:
                raise ConfigurationError(f"this store knows no projection named {projection!r}: pass the projection")
            projection = self._declaration.projection(projection)
        awaited = Awaited(database, projection, position, None if stream_id is None else str(stream_id))
        ours = self._open_transactions.get(asyncio.current_task(), ())
        await awaited.wait(within, has_appended=any(tx.written for tx in ours))

    @contextmanager
    def _noted(self, tx: Transaction) -> Iterator[None]:
        """Note an open transaction of this task, so that an append outside it can see that it would wait for itself."""
        task = asyncio.current_task()
        self._open_transactions.setdefault(task, []).append(tx)
        try:
            yield
        finally:
            self._open_transactions[task].remove(tx)
            if not self._open_transactions[task]:
                del self._open_transactions[task]

    def _check_open(self, stream_id: str | None) -> None:
        if not self._is_open:
            raise ClosedError("store")
        if stream_id is not None and self._open_transactions:
            for tx in self._open_transactions.get(asyncio.current_task(), ()):
                if stream_id in tx.asked_for:
                    raise SelfDeadlockError(stream_id)


def _subscriptions() -> Any:
    """Return what stands on the store and yet is made by it: looked up when it is used, the one look upwards."""
    return importlib.import_module("eventstore.subscriptions")


def _check_timeout(timeout: float | None) -> None:
    is_time = timeout is None or (isinstance(timeout, int | float) and not isinstance(timeout, bool) and timeout > 0)
    if not is_time:
        raise InvalidArgumentError(f"timeout is a number of seconds above 0, or None, not {timeout!r}")
