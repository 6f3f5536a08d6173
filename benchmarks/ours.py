"""The framework, through its public interface only, opened as a service opens it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import count
from typing import TYPE_CHECKING

from benchmarks.domain import Account, Deposited, app, deposit
from benchmarks.payload import EVENTS_PER_STREAM
from eventstore import ANY, NO_STREAM, EventStore, WrongExpectedVersionError
from eventstore.clock import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.racing import AsyncStep


def opened(dsn: str) -> AbstractAsyncContextManager[EventStore]:
    """Open a store with its defaults."""
    return EventStore.open(dsn, app)


def appender(store: EventStore) -> Callable[[int], AsyncStep]:
    """Return callers that append one event at a time, each to streams of its own, at the version they expect."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        stream_id = ""

        async def step() -> None:
            nonlocal stream_id
            number = next(numbers)
            version = number % EVENTS_PER_STREAM
            if version == 0:
                stream_id = f"account-{uuid7()}"
            await store.append(stream_id, [deposit(number)], expected_version=version or NO_STREAM)

        return step

    return caller


def appender_to(store: EventStore, choose: Callable[[], str]) -> Callable[[int], AsyncStep]:
    """Return callers that append one event at a time to whatever stream is chosen, at any version."""

    def caller(_: int) -> AsyncStep:
        numbers = count()

        async def step() -> None:
            await store.append(choose(), [deposit(next(numbers))], expected_version=ANY)

        return step

    return caller


def contender(store: EventStore, stream_id: str) -> Callable[[int], AsyncStep]:
    """Return callers that write to one stream at the version they believe in, and try again when it was another."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        version = 0

        async def step() -> None:
            nonlocal version
            event = deposit(next(numbers))
            while True:
                try:
                    done = await store.append(stream_id, [event], expected_version=version)
                except WrongExpectedVersionError as conflict:
                    version = conflict.actual
                else:
                    version = done.stream_version
                    return

        return step

    return caller


async def fill_stream(store: EventStore, stream_id: str, numbers: Sequence[int]) -> None:
    """Append many events to a stream, a thousand at a time."""
    for start in range(0, len(numbers), 1000):
        chunk = [deposit(number) for number in numbers[start : start + 1000]]
        await store.append(stream_id, chunk, expected_version=ANY)


async def load(store: EventStore, key: str) -> int:
    """Load an account; returns how many events it is made of."""
    account = await store.repository(Account).load(key)
    return account.state.deposits


async def read_log(store: EventStore, limit: int) -> int:
    """Read the log as typed events; returns how many there are."""
    seen = 0
    async for _ in store.read_all(of=Deposited, limit=limit):
        seen += 1
    return seen
