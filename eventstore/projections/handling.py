"""Calling a projection's handlers, and telling failures of theirs from those that pass by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import TYPE_CHECKING, Any

from eventstore.db import ConnectionLostError
from eventstore.db.errors import passing_failure
from eventstore.errors import (
    EndedTransactionError,
    NotCaughtUpError,
    ProjectionFailedError,
    TransactionConflictError,
    UnavailableError,
)
from eventstore.lifecycle import is_cancelled
from eventstore.metadata import caused_by

if TYPE_CHECKING:
    from eventstore.db import Connection
    from eventstore.events import RecordedEvent
    from eventstore.projections.projection import BatchHandler, Projection, ProjectionContext


class StretchFailedError(Exception):
    """Events could not be applied together, and nothing says which of them is to blame: the cause says why."""


class BrokenWhileHandlingError(ConnectionLostError):
    """The connection broke while handlers ran: by chance, or, if it does so again and again, by their own doing."""


async def handle_all(projection: Projection, events: Sequence[RecordedEvent[Any]], context: ProjectionContext) -> None:
    """Call the handlers of events, in order; what a handler of single events appends is caused by its event.

    Raises:
        ProjectionFailedError: The handler of one event failed; its exception is the cause.
        StretchFailedError: A handler of several events failed, or PostgreSQL refuses what they left behind.
        UnavailableError: The connection broke while a handler ran.
        TransactionConflictError: PostgreSQL ended the transaction in favour of another one.
        EndedTransactionError: A handler has ended the transaction itself.
    """
    connection = context.connection
    for handling, run in groupby(events, key=lambda event: projection.handling(type(event.data))):
        if handling is None:
            continue
        if handling.batch is not None:
            await _handle_batch(projection, handling.batch, list(run), context)
            continue
        assert handling.each is not None  # noqa: S101 - one of the two is set
        for event in run:
            with _failures(projection, connection, event), caused_by(str(event.event_id), event.metadata):
                await handling.each(event, context)
    # What is checked at the commit only is checked here, where it is known whose doing it is; and a handler may have
    # caught an error of PostgreSQL's, which ends all of it.
    with _failures(projection, connection, events[0] if len(events) == 1 else None):
        await connection.execute("SET CONSTRAINTS ALL IMMEDIATE")


async def _handle_batch(
    projection: Projection, handler: BatchHandler, events: Sequence[RecordedEvent[Any]], context: ProjectionContext
) -> None:
    with _failures(projection, context.connection, events[0] if len(events) == 1 else None):
        await handler(events, context)


@contextmanager
def _failures(projection: Projection, connection: Connection, event: RecordedEvent[Any] | None) -> Iterator[None]:
    """Say of which event the failure of a handler is, or that it may be any of them."""
    try:
        yield
        _require_transaction(projection, connection)
    except EndedTransactionError:
        raise
    except (Exception, asyncio.CancelledError) as error:
        if _passes(error):
            if isinstance(error, ConnectionLostError) and connection.is_closed():
                raise BrokenWhileHandlingError(str(error)) from None
            raise
        if (passing := passing_failure(error, connection)) is not None:
            broke = isinstance(passing, ConnectionLostError)
            raise (BrokenWhileHandlingError(str(passing)) if broke else passing) from None
        _require_transaction(projection, connection)
        if event is None:
            raise StretchFailedError(type(error).__qualname__) from error
        raise failure_of(projection, event, error) from error


def _require_transaction(projection: Projection, connection: Connection) -> None:
    """Check that the transaction is open still: its progress is committed otherwise, and what follows would be lost.

    Raises:
        EndedTransactionError: It is not.
    """
    if not connection.is_closed() and not connection.is_in_transaction():
        raise EndedTransactionError(projection.name)


def _passes(error: BaseException) -> bool:
    """Whether an error says nothing of the handler: it is to end, or PostgreSQL cannot serve it just now."""
    if isinstance(error, asyncio.CancelledError):
        return is_cancelled()
    return isinstance(error, UnavailableError | TransactionConflictError) and not isinstance(error, NotCaughtUpError)


def failure_of(projection: Projection, event: Any, error: BaseException) -> ProjectionFailedError:
    """Return the error that says which event (recorded or stored) could not be applied; payloads stay out of it."""
    return ProjectionFailedError(
        projection.name, event.event_type, event.stream_id, event.stream_version, type(error).__qualname__
    )
