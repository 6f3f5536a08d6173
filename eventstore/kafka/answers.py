"""Waiting for Kafka: always for a bounded time, and what goes wrong in the framework's own terms.

aiokafka retries most broker errors for ever, so no await on it goes without a bound. Which exception it raises says
little (a fenced producer shows up as six different ones), so all of them become one: try again, from the start. Only
what the broker does not allow is said once, and not tried again: nobody is allowed more by asking more often.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

from aiokafka.errors import (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    IllegalOperation,
    InvalidSessionTimeoutError,
    InvalidTransactionTimeout,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

from eventstore.errors import ConfigurationError, UnavailableError
from eventstore.lifecycle import Backoff, ended

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eventstore.kafka.settings import KafkaSettings

T = TypeVar("T")

_NOT_ALLOWED: Final = (
    AuthenticationFailedError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)

_REFUSED_WAITS: Final = {
    InvalidSessionTimeoutError: (
        "session_timeout must be between the brokers' group.min.session.timeout.ms (6 s by default) and "
        "group.max.session.timeout.ms (30 minutes)"
    ),
    InvalidTransactionTimeout: (
        "transaction_timeout must be no more than the brokers' transaction.max.timeout.ms (15 minutes by default)"
    ),
}

_FAILURES: Final = (KafkaError, ConsumerStoppedError, IllegalOperation, AssertionError, OSError)
"""What aiokafka raises. Two of its own errors are no `KafkaError`: a producer that is fenced says `IllegalOperation` to
whoever sends to one more partition. A time-out is an `OSError`."""

CLOSE_SECONDS = 2.0
"""How long closing a client may take; what it still held is decided by Kafka, not by waiting."""


async def answer(awaitable: Awaitable[T], what: str, within: float) -> T:
    """Wait for an answer of Kafka's.

    Args:
        awaitable: What aiokafka was asked.
        what: What it was asked, for the error message.
        within: How long to wait, in seconds.

    Raises:
        ConfigurationError: The broker does not allow it, or refuses how long to wait.
        UnavailableError: It failed, or did not answer in time; what became of it is unknown.
    """
    try:
        async with asyncio.timeout(within):
            with translated(what):
                return await awaitable
    except TimeoutError:
        raise UnavailableError(f"Kafka did not answer within {within:g} s ({what})") from None


async def answer_of_any(question: Callable[[], Awaitable[T]], what: str, within: float) -> T:
    """Wait for the answer of any broker: the client chooses one of all that it has heard of, and one may be down.

    Args:
        question: Asks one of them.
        what: What it is asked, for the error message.
        within: How long to wait in all, in seconds.

    Raises:
        ConfigurationError, UnavailableError: As `answer`.
    """

    async def of_one_that_is_up() -> T:
        backoff = Backoff(first=0.02, most=0.2)
        while True:
            try:
                return await question()
            except (NodeNotReadyError, KafkaConnectionError):
                await backoff.wait()

    return await answer(of_one_that_is_up(), what, within)


async def connected(starting: Coroutine[Any, Any, None], settings: KafkaSettings) -> None:
    """Wait until a client is connected.

    A start is not cut off while it can still finish: aiokafka forgets the connection that it first asks for the
    cluster, and nobody could close it.

    Args:
        starting: Its start.
        settings: How it reaches Kafka; the address is named if it does not, and never who signs in.

    Raises:
        UnavailableError: It could not be connected, or not in time.
    """
    try:
        async with asyncio.timeout(settings.answer_within):
            await finished(starting, CLOSE_SECONDS)
    except _FAILURES as error:
        raise UnavailableError(
            f"Kafka cannot be reached at {','.join(settings.brokers)} ({type(error).__name__}): check that it runs, "
            "that this is its address, and that its advertised listeners can be reached from here"
        ) from None


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Translate what aiokafka raises inside the block; its messages may quote payloads, so only the kind is kept."""
    try:
        yield
    except _FAILURES as error:
        raise failure(type(error), what) from None


def failure(kind: type[Exception], what: str) -> ConfigurationError | UnavailableError:
    """Return what a failure of Kafka's is in the framework's own terms.

    Args:
        kind: Its kind.
        what: What was asked.
    """
    if issubclass(kind, _NOT_ALLOWED):
        return ConfigurationError(
            f"Kafka does not allow it: {kind.__name__} ({what}); give whoever signs in here the right to it"
        )
    if advice := _REFUSED_WAITS.get(kind):
        return ConfigurationError(f"Kafka refuses how long to wait: {kind.__name__} ({what}); {advice}")
    return UnavailableError(f"Kafka failed: {kind.__name__} ({what})")


async def closed(closing: Coroutine[Any, Any, Any], within: float = CLOSE_SECONDS) -> None:
    """Close a client within bounds, whatever state it is in; its errors say nothing that matters any more.

    It runs as a task of its own: aiokafka was seen to let the cancellation of its inner tasks out. Whoever cancels the
    caller meanwhile waits for it, within the same bounds: a closing that is cut off leaves connections open.

    Raises:
        asyncio.CancelledError: The caller was cancelled; the closing has ended.
    """
    task = asyncio.create_task(closing)
    cancelled = await _given_time(task, within)
    await ended(task)
    if cancelled is not None:
        raise cancelled


async def finished(work: Coroutine[Any, Any, T], within: float) -> T:
    """Do something that is better ended than cut off: when it is cancelled, it may finish first, within some seconds.

    Raises:
        asyncio.CancelledError: The caller was cancelled; the work has ended.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await _given_time(task, within)
        await ended(task)
        raise


async def _given_time(task: asyncio.Task[Any], within: float) -> asyncio.CancelledError | None:
    """Wait for a task, for some seconds at most, however often the caller is cancelled; return the last time it was.

    Who loses a lease is cancelled by several: by whoever renews it, and by whoever wrote under it.
    """
    clock = asyncio.get_running_loop().time
    end, cancelled = clock() + within, None
    while not task.done() and (left := end - clock()) > 0:
        try:
            await asyncio.wait({task}, timeout=left)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
