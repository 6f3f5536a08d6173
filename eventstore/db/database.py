"""Connections: a pool of our own or the caller's, and one way to run a query on either or inside a transaction."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import asyncpg

from eventstore.db.errors import connecting, translated
from eventstore.db.queries import Queries
from eventstore.db.sessions import default_isolation
from eventstore.errors import (
    ClosedError,
    ConfigurationError,
    InvalidArgumentError,
    NotConnectedError,
    UnsupportedServerError,
    WrongEventLoopError,
)

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

DEFAULT_SCHEMA: Final = "eventstore"
MIN_POOL_SIZE: Final = 2
"""The least size of a pool: while a transaction holds one connection, its outcome is resolved on another."""
POOL_TIMEOUT: Final = 10.0
"""How long a call waits for a free connection, in seconds: longer than any burst, shorter than people's patience."""
_RELEASE_TIMEOUT: Final = 1.0
"""How long a cancelled statement may take to end before its connection is given up: the server may be deaf."""
_CANCEL_TIMEOUT: Final = 0.5
"""How long a pool's connection may take to end a cancelled statement: giving it up costs no more than a new one."""
_MIN_SERVER: Final = 150000
_CONNECT_TIMEOUT: Final = 10.0
_ISOLATION: Final = "read committed"
"""What everything here is written for. Where a role or a database has another default, each call says it."""

_OWN_SETTINGS: Final = {
    "application_name": "eventstore",
    "default_transaction_isolation": _ISOLATION,
    # An abandoned transaction holds its streams and all readers of the log, so its life is bounded.
    "idle_in_transaction_session_timeout": "60s",
    "tcp_user_timeout": "10s",
}
"""Session settings of an own pool. PgBouncer refuses them as startup parameters: set them on the role there."""

_WATCHED: Final = {
    "tcp_user_timeout": "10s",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
}
"""What lets the server notice as soon that we are gone: an open transaction of a worker's keeps its place locked."""

_KEEPALIVE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
"""What lets this host notice, within some 10 seconds, that the other one is gone, where the system can say so."""

_FAILURES: Final = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError)
"""All that the driver raises: passed over where the work is done and only its tidying up fails."""

Connection: TypeAlias = asyncpg.Connection
Transaction: TypeAlias = asyncpg.transaction.Transaction
Row = Sequence[Any]


class Session(Protocol):
    """Runs queries, each in a transaction of its own (a pool) or all in one (a connection inside a transaction)."""

    queries: Queries

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named query and return its rows."""
        ...

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Run a named query and return its first row."""
        ...


class ConnectionSession:
    """Runs queries on one connection, which is inside a transaction that somebody else began.

    Attributes:
        is_open: Whether the transaction is still ours: afterwards, what is written here would commit at once.
    """

    def __init__(self, connection: Connection, queries: Queries) -> None:
        self.connection = connection
        self.queries = queries
        self.is_open = True

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named query and return its rows.

        Raises:
            ClosedError: The transaction has ended.
            InvalidArgumentError: The same, and it was not we who ended it.
        """
        if not self.is_open:
            raise ClosedError("transaction")
        with translated(self.queries.schema):
            self.require_transaction()
            rows: list[Row] = await self.connection.fetch(self.queries[name], *args)
        return rows

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Run a named query and return its first row."""
        rows = await self.fetch(name, *args)
        return rows[0] if rows else None

    def require_transaction(self) -> None:
        """Check that the connection is inside a transaction, as far as it is known here; it costs no round trip.

        Raises:
            InvalidArgumentError: It is not: what it wrote would commit at once.
        """
        if not self.connection.is_closed() and not self.connection.is_in_transaction():
            raise InvalidArgumentError(
                "the connection is not in a transaction: begin one first (SQLAlchemy begins it with its first own "
                "statement), and end it after the store's block"
            )

    async def copy_in(self, table: str, columns: Sequence[str], blocks: Iterable[bytes]) -> None:
        """Copy rows into a table of the store, in PostgreSQL's binary format, in blocks of any size."""

        async def each() -> AsyncIterator[bytes]:
            for block in blocks:
                yield block

        with translated(self.queries.schema):
            await self.connection.copy_to_table(
                table, source=each(), columns=columns, schema_name=self.queries.schema, format="binary"
            )


class PinnedSession:
    """Runs queries on one connection of a pool, each in a transaction of its own."""

    def __init__(self, database: Database, connection: Connection) -> None:
        self.queries = database.queries
        self._database = database
        self._connection = connection

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named query and return its rows."""
        return await self._database.fetch_on(self._connection, name, *args)

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Run a named query and return its first row."""
        rows = await self.fetch(name, *args)
        return rows[0] if rows else None


class Database:
    """The store's way to PostgreSQL: opens its own pool for a DSN, or works on a pool that is passed in.

    A pool that is passed in is never closed or reconfigured. Everything is schema-qualified and payloads cross as
    text, so its search_path and its codecs for JSON do not matter; with others it is refused when it would give
    something else than asyncpg does.

    Args:
        source: A DSN (`postgresql://…`) or an asyncpg pool.
        schema: The PostgreSQL schema of the store.
        pool_size: The largest number of connections of an own pool.
        pool_timeout: How long a call waits for a free connection, in seconds.
        pgbouncer: Whether PgBouncer in transaction mode is in between: no statement is then cached.

    Raises:
        InvalidDsnError: The DSN cannot be parsed (it is never shown).
        ConfigurationError: The pool is smaller than `MIN_POOL_SIZE`, or the schema's name is not an identifier.
    """

    def __init__(
        self,
        source: str | asyncpg.Pool,
        *,
        schema: str = DEFAULT_SCHEMA,
        pool_size: int = 10,
        pool_timeout: float = POOL_TIMEOUT,
        pgbouncer: bool = False,
    ) -> None:
        self.queries = Queries(schema)
        self._source = source
        self._pool_timeout = pool_timeout
        self._pgbouncer = pgbouncer
        self._pool: asyncpg.Pool | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._says_isolation = False
        # A pool that was passed in has rules of its own, and behind PgBouncer the session is everybody's.
        self._resets = isinstance(source, str) and not pgbouncer
        self.pool_size = pool_size if isinstance(source, str) else source.get_max_size()
        """The largest number of connections."""
        if self.pool_size < MIN_POOL_SIZE:
            raise ConfigurationError(
                f"the pool has {self.pool_size} connection(s), a store needs at least {MIN_POOL_SIZE}"
            )

    @property
    def schema(self) -> str:
        """The PostgreSQL schema of the store."""
        return self.queries.schema

    def __repr__(self) -> str:
        return f"Database(schema={self.schema!r})"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        if isinstance(self._source, str):
            with connecting(self._source):
                self._pool = await _own_pool(self._source, self.pool_size, pgbouncer=self._pgbouncer)
        else:
            self._pool = self._source
        try:
            async with self.connection() as connection:
                _require_supported(connection)
                self._says_isolation = await default_isolation(connection, self.queries) != _ISOLATION
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None and isinstance(self._source, str):
            try:
                await asyncio.wait_for(pool.close(), _CONNECT_TIMEOUT)
            except TimeoutError:
                pool.terminate()

    @asynccontextmanager
    async def connection(self, *, reset: bool = False) -> AsyncIterator[Connection]:
        """Borrow a connection for as long as the block lasts.

        Args:
            reset: Undo what was done to the session (settings, locks) afterwards, also when the block failed, because
                it hands the connection to the caller.

        Raises:
            UnavailableError: No connection can be made, or none was free in time.
        """
        if self._pool is None:
            raise ClosedError("store")
        if self._loop is not asyncio.get_running_loop():
            raise WrongEventLoopError
        pool = self._pool
        connection = await self._acquired(pool)
        try:
            try:
                yield connection
            finally:
                if reset and self._resets:
                    await _undo_settings(connection)
        finally:
            try:
                await pool.release(connection, timeout=_CANCEL_TIMEOUT)
            except TimeoutError:  # the server does not even hear that a statement is cancelled
                self._give_up_idle()
            except _FAILURES:  # the pool has given the connection up then
                pass

    def _give_up_idle(self) -> None:
        """Give up what waits in an own pool: the way to the server has died without a word, and so have they."""
        if self._pool is not None and isinstance(self._source, str):
            for holder in self._pool._holders:  # noqa: SLF001 - expiring them would wait for their good-bye
                if holder.is_idle():
                    holder.terminate()

    async def _acquired(self, pool: asyncpg.Pool) -> Connection:
        try:
            async with asyncio.timeout(self._pool_timeout):
                with connecting():
                    return await pool.acquire()
        except TimeoutError:
            raise NotConnectedError(
                f"no connection within {self._pool_timeout:g} s: all {pool.get_max_size()} of the pool are in use, or "
                "PostgreSQL does not answer; end transactions sooner, or raise pool_size"
            ) from None

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named query in a transaction of its own and return its rows."""
        async with self.connection() as connection:
            return await self.fetch_on(connection, name, *args)

    async def fetch_on(self, connection: Connection, name: str, *args: Any) -> list[Row]:
        """Run a named query in a transaction of its own on a connection, and return its rows."""
        if self._says_isolation:
            async with self.transaction_on(connection) as session:
                return await session.fetch(name, *args)
        with translated(self.schema):
            rows: list[Row] = await connection.fetch(self.queries[name], *args)
        return rows

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[PinnedSession]:
        """Keep one connection for several queries, each in a transaction of its own."""
        async with self.connection() as connection:
            yield PinnedSession(self, connection)

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Run a named query in a transaction of its own and return its first row."""
        rows = await self.fetch(name, *args)
        return rows[0] if rows else None

    @asynccontextmanager
    async def transaction(self, *, keep: bool = True) -> AsyncIterator[ConnectionSession]:
        """Run the block in one READ COMMITTED transaction, whatever the role's default is.

        Args:
            keep: Commit at the end of the block; otherwise roll back, for questions that have to write.
        """
        async with self.connection(reset=True) as connection, self.transaction_on(connection, keep=keep) as session:
            yield session

    @asynccontextmanager
    async def transaction_on(self, connection: Connection, *, keep: bool = True) -> AsyncIterator[ConnectionSession]:
        """Run the block in one READ COMMITTED transaction on a connection of the caller's."""
        with translated(self.schema):
            transaction = connection.transaction(isolation="read_committed")  # refused if it was closed meanwhile
            await transaction.start()
        session = ConnectionSession(connection, self.queries)
        try:
            yield session
        except BaseException:
            await self._roll_back(connection, transaction)  # what the block raised matters more than how this ends
            raise
        finally:
            session.is_open = False
        with translated(self.schema):
            if keep:
                # COMMIT of a transaction in which a statement failed rolls back, and the driver says nothing of it.
                await connection.execute("SELECT")
            await (transaction.commit() if keep else transaction.rollback())

    async def _roll_back(self, connection: Connection, transaction: Transaction) -> None:
        try:
            async with asyncio.timeout(_RELEASE_TIMEOUT):
                await transaction.rollback()
        except TimeoutError:
            connection.terminate()
            self._give_up_idle()
        except _FAILURES:
            pass

    def session(self, connection: Connection) -> ConnectionSession:
        """Return a session on a connection that is inside a transaction."""
        return ConnectionSession(connection, self.queries)

    @asynccontextmanager
    async def dedicated(self) -> AsyncIterator[Connection]:
        """Open a connection outside the pool, for a worker that sets its session up for itself.

        Raises:
            ConfigurationError: The store was opened on a pool, whose address is not ours to know.
        """
        if not isinstance(self._source, str):
            async with self.connection(reset=True) as connection:
                yield connection
            return
        with connecting(self._source):
            connection = await asyncpg.connect(
                self._source,
                timeout=_CONNECT_TIMEOUT,
                statement_cache_size=0 if self._pgbouncer else 256,
                server_settings=None if self._pgbouncer else _WATCHED,
            )
        _keep_alive(connection)
        try:
            yield connection
        finally:
            try:
                await connection.close(timeout=_RELEASE_TIMEOUT)
            except TimeoutError:  # a server that is gone says no good-bye; the driver has hung up
                self._give_up_idle()
            except _FAILURES:
                pass


async def _own_pool(dsn: str, size: int, *, pgbouncer: bool) -> asyncpg.Pool:
    async def keep_alive(connection: Connection) -> None:
        _keep_alive(connection)

    async def no_reset(_: Connection) -> None:
        """Save the round trip: nothing of ours changes the session, and where callers could, the block resets."""

    return await asyncpg.create_pool(
        dsn,
        min_size=MIN_POOL_SIZE,
        max_size=size,
        timeout=_CONNECT_TIMEOUT,
        statement_cache_size=0 if pgbouncer else 256,
        init=keep_alive,
        reset=no_reset,
        server_settings=None if pgbouncer else _OWN_SETTINGS,
    )


def _keep_alive(connection: Connection) -> None:
    """Let the system look after a connection: a statement whose answer never comes then ends with a broken one."""
    sock = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the driver has no option for it
    if sock.family == getattr(socket, "AF_UNIX", None):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE.items():
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


async def _undo_settings(connection: Connection) -> None:
    """Undo session settings; what was done before is done, so a failure only costs the connection."""
    try:
        await connection.reset(timeout=_RELEASE_TIMEOUT)
    except BaseException as error:
        with contextlib.suppress(*_FAILURES):  # a connection that broke has left the pool already
            connection.terminate()
        if not isinstance(error, _FAILURES):
            raise


def _require_supported(connection: Connection) -> None:
    version = connection.get_server_version()
    if version.major * 10_000 < _MIN_SERVER:
        raise UnsupportedServerError(f"{version.major}.{version.micro}", str(_MIN_SERVER // 10_000))
