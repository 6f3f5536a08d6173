"""The driver's errors in the framework's terms; nothing of a row's content gets through (a DETAIL quotes payloads)."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from eventstore.db.scripts import head_revision
from eventstore.errors import (
    ClosedError,
    ConfigurationError,
    EventStoreError,
    InvalidArgumentError,
    InvalidDsnError,
    MissingMigrationError,
    NotConnectedError,
    TransactionAbortedError,
    TransactionConflictError,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class ConnectionLostError(UnavailableError):
    """The connection broke while a statement was under way, so its outcome is unknown here."""


class DuplicateError(EventStoreError):
    """A unique constraint was violated; `constraint` names it."""

    retryable = True

    def __init__(self, constraint: str) -> None:
        self.constraint = constraint
        super().__init__(f"a row like this exists already (constraint {constraint})")


_LOST = (
    asyncpg.ConnectionDoesNotExistError,
    asyncpg.ConnectionFailureError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.IdleSessionTimeoutError,
    asyncpg.TransactionTimeoutError,
    OSError,
)
_CONFLICT = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)
_UNAVAILABLE = (
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.LockNotAvailableError,
    asyncpg.QueryCanceledError,
    asyncpg.ReadOnlySQLTransactionError,
)
_NOT_MIGRATED = (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError)


@contextmanager
def translated(schema: str) -> Iterator[None]:  # noqa: C901 - a table: one case for each family of errors
    """Translate what the driver raises inside the block."""
    try:
        yield
    except asyncpg.UniqueViolationError as error:
        raise DuplicateError(error.constraint_name or "unknown") from None
    except asyncpg.InFailedSQLTransactionError:
        raise TransactionAbortedError from None
    except _CONFLICT as error:
        raise TransactionConflictError(f"{error.args[0]}: run the whole transaction again") from None
    except _NOT_MIGRATED as error:
        if f"{schema}." not in str(error) and f'"{schema}"' not in str(error):
            raise ConfigurationError(f"PostgreSQL: {error.args[0]}") from None
        raise MissingMigrationError(schema, None, head_revision()) from None
    except _UNAVAILABLE as error:
        raise UnavailableError(f"PostgreSQL refuses work just now: {error.args[0]}") from None
    except (*_LOST, asyncpg.InternalClientError) as error:  # the latter: cut off at a bad moment for its state machine
        raise ConnectionLostError(f"the connection to PostgreSQL broke ({type(error).__name__})") from None
    except asyncpg.DataError as error:  # its text quotes the value, which may be a payload
        raise InvalidArgumentError(
            f"PostgreSQL cannot take a value of this call ({type(error).__name__}, SQLSTATE {error.sqlstate}): is a "
            "number too large, or a NUL character or a lone surrogate in a text?"
        ) from None
    except asyncpg.InterfaceError as error:
        if "released" in str(error):  # asyncpg's pool takes a connection back as soon as it breaks
            raise ConnectionLostError("the connection to PostgreSQL broke") from None
        if "closed" in str(error):
            raise ConnectionLostError("the connection to PostgreSQL is closed") from None
        raise ConfigurationError(f"the PostgreSQL driver refuses the call: {error}") from None
    except asyncpg.PostgresError as error:
        raise EventStoreError(
            f"PostgreSQL refused the statement: {error.args[0]} (SQLSTATE {error.sqlstate})"
        ) from None


@contextmanager
def connecting(dsn: str | None = None) -> Iterator[None]:
    """Translate what goes wrong while a connection is made; neither the address nor the password is shown.

    Args:
        dsn: The address, if the block is the first to use it: the driver would take an empty one for its defaults.
    """
    if dsn is not None and not dsn.startswith(("postgresql://", "postgres://")):
        raise InvalidDsnError("it does not begin with postgresql://")
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise ConfigurationError("PostgreSQL refused user or password: check the DSN's credentials") from None
    except asyncpg.InvalidCatalogNameError:
        raise ConfigurationError("the database named in the DSN does not exist: create it, or mend the DSN") from None
    except (asyncpg.ClientConfigurationError, ValueError) as error:
        raise InvalidDsnError(_without_address(error)) from None
    except asyncpg.TooManyConnectionsError:
        raise NotConnectedError(
            "PostgreSQL has no connection left: raise max_connections, or give the services smaller pools"
        ) from None
    except (OSError, TimeoutError, asyncpg.PostgresConnectionError, asyncpg.InsufficientResourcesError) as error:
        raise NotConnectedError(
            f"PostgreSQL cannot be reached ({type(error).__name__}): check that it runs and that the DSN names it"
        ) from None
    except asyncpg.InterfaceError as error:
        if "pool is clos" in str(error):  # the caller's own, closed while the store is open
            raise ClosedError("pool") from None
        raise ConfigurationError(f"the PostgreSQL driver refuses the call: {error}") from None
    except asyncpg.OperatorInterventionError:  # it is not ready yet, or was killed while it let us in
        raise NotConnectedError("PostgreSQL is starting up or shutting down: try again in a moment") from None


def _without_address(error: Exception) -> str:
    """Say what is wrong with a DSN without quoting it: parsers quote what they could not read."""
    text = str(error).lower()
    encode = "a password with / # ? [ or @ in it must be percent-encoded (/ is %2F, # is %23)"
    for word, problem in (
        ("base 10", f"the port is not a number, or {encode}"),
        ("scheme", "it does not begin with postgresql://"),
        ("port", f"the port is not a number, or {encode}"),
        ("ssl", "its ssl options do not fit together"),
        ("ipv6", f"its IPv6 address is not closed with ']', or {encode}"),
        ("host", "it names no host"),
    ):
        if word in text:
            return problem
    return f"it cannot be parsed: {encode}"


def passing_failure(error: BaseException, connection: asyncpg.Connection) -> EventStoreError | None:
    """Return what a failure of a caller's code on our connection means, if it passes without anybody mending the code.

    Returns:
        The connection broke, PostgreSQL preferred another transaction, or it has no room left; None when it says
        something of the code.
    """
    if isinstance(error, _CONFLICT):
        return TransactionConflictError(f"{error.args[0]}: run the whole transaction again")
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return UnavailableError(f"PostgreSQL refuses work just now: {error.args[0]}")
    broke = isinstance(error, asyncpg.InternalClientError) or (
        isinstance(error, _LOST) and isinstance(error, asyncpg.PostgresError)
    )
    if broke or connection.is_closed():
        return ConnectionLostError(f"the connection to PostgreSQL broke ({type(error).__name__})")
    return None
