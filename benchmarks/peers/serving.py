"""The peer's side of the line: a process that does what it is told in JSON on stdin, and answers on stdout.

python -m benchmarks.peers MODULE DSN CONNECTIONS
"""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import sys
import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import count
from typing import Any, TextIO
from uuid import UUID, uuid4

from benchmarks.payload import EVENTS_PER_STREAM
from benchmarks.racing import AsyncStep, Race, Step, race, race_in_threads


class Unsupported(Exception):  # noqa: N818 - no error: the library has no such thing
    """The library does not offer this."""


class AsyncPeer(ABC):
    """A library for asyncio.

    Attributes:
        copying: SQL that copies all events, as often as `{copies}` says, in the library's own tables: each copy of a
            stream under an id of its own, and all in the order in which they were written.
    """

    copying = ""

    def __init__(self, dsn: str, connections: int) -> None:
        self.dsn = dsn
        self.connections = connections

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the tables as the library's documentation says."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def append(self, stream: UUID, version: int, number: int) -> None:
        """Append the `number`-th event to a stream that is at this version."""

    async def append_any(self, stream: UUID, number: int) -> None:  # noqa: ARG002 - the interface's
        """Append at whatever version the stream is at."""
        raise Unsupported("it has no append without an expected version")

    @abstractmethod
    async def append_after_conflicts(self, stream: UUID, version: int, number: int) -> int:
        """Append, after a conflict at the stream's actual version; returns the new version."""

    @abstractmethod
    async def fill(self, stream: UUID, numbers: range) -> None:
        """Append many events to a new stream, the fastest way there is."""

    async def load(self, stream: UUID) -> int:  # noqa: ARG002 - the interface's
        """Fold a stream; returns how many events it is made of."""
        raise Unsupported("it has no aggregates")

    async def read_all(self, limit: int) -> int:  # noqa: ARG002 - the interface's
        """Read the log as typed events; returns how many there are."""
        raise Unsupported("it has no way to read all events")

    async def race(self, callers: int, seconds: float, make: Callable[[int], Any]) -> Race:
        """Run the callers' steps as tasks."""
        return await race(callers, seconds, make)


def appender(peer: AsyncPeer) -> Callable[[int], AsyncStep]:
    """Return callers that append one event at a time, each to streams of its own."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        stream = uuid4()

        async def step() -> None:
            nonlocal stream
            number = next(numbers)
            version = number % EVENTS_PER_STREAM
            if version == 0:
                stream = uuid4()
            await peer.append(stream, version, number)

        return step

    return caller


def contender(peer: AsyncPeer, stream: UUID, *, versioned: bool) -> Callable[[int], AsyncStep]:
    """Return callers that all write to one stream."""

    def caller(_: int) -> AsyncStep:
        numbers = count()
        version = 0

        async def step() -> None:
            nonlocal version
            if versioned:
                version = await peer.append_after_conflicts(stream, version, next(numbers))
            else:
                await peer.append_any(stream, next(numbers))

        return step

    return caller


class BlockingPeer(AsyncPeer):
    """A library that blocks: its callers are threads, as they are in its users' services.

    Its coroutines never wait for anything, so that a thread can run each to its end without a loop.
    """

    async def race(self, callers: int, seconds: float, make: Callable[[int], Any]) -> Race:
        """Run the callers' steps as threads."""

        def in_thread(number: int) -> Step:
            step = make(number)
            return lambda: _finish(step())

        return race_in_threads(callers, seconds, in_thread)


def _finish(coroutine: Any) -> None:
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise AssertionError("a blocking peer waited for the event loop")


class Served:
    """The work that can be asked for, on one peer."""

    def __init__(self, peer: AsyncPeer) -> None:
        self._peer = peer
        self._filled: list[UUID] = []

    async def appends(self, callers: int, seconds: float) -> dict[str, Any]:
        """Append single events, each caller to its own streams."""
        return _told(await self._peer.race(callers, seconds, appender(self._peer)))

    async def contention(self, callers: int, seconds: float, *, versioned: bool) -> dict[str, Any]:
        """Append single events, all callers to one new stream."""
        stream = uuid4()
        await self._peer.append(stream, 0, 0)
        return _told(await self._peer.race(callers, seconds, contender(self._peer, stream, versioned=versioned)))

    async def fill(self, streams: int, events: int) -> dict[str, Any]:
        """Make streams of so many events."""
        for _ in range(streams):
            stream = uuid4()
            await self._peer.fill(stream, range(events))
            self._filled.append(stream)
        return {}

    async def copying(self, copies: int) -> dict[str, Any]:
        """Tell how the filled streams are copied so often: a log that takes an hour to write is had in a minute."""
        if not self._peer.copying:
            raise Unsupported("nobody has said how its events are copied")
        return {"sql": self._peer.copying.format(copies=copies)}

    async def loads(self, seconds: float) -> dict[str, Any]:
        """Load the first filled stream over and over; the rate is in events."""
        began, events = time.perf_counter(), 0
        while time.perf_counter() < began + seconds:
            events += await self._peer.load(self._filled[0])
        return {"rate": events / (time.perf_counter() - began)}

    async def reads(self, limit: int) -> dict[str, Any]:
        """Read all events; the rate is in events. A reader that skips, or that reads twice, has none."""
        began = time.perf_counter()
        events = await self._peer.read_all(limit)
        if events != limit:
            raise RuntimeError(f"read {events} events where there are {limit}")
        return {"rate": events / (time.perf_counter() - began), "events": events}


def _told(race: Race) -> dict[str, Any]:
    return {"rate": race.rate, "starvation": race.starvation}


async def _serve(peer: AsyncPeer, requests: TextIO, answers: TextIO) -> None:
    served = Served(peer)
    await peer.open()
    try:
        _answer(answers, {})
        while line := await asyncio.to_thread(requests.readline):
            request = json.loads(line)
            try:
                answer = await getattr(served, request.pop("work"))(**request)
            except Unsupported as reason:
                answer = {"unsupported": str(reason)}
            _answer(answers, answer)
    finally:
        await peer.close()


def _answer(answers: TextIO, answer: dict[str, Any]) -> None:
    answers.write(json.dumps(answer) + "\n")
    answers.flush()


def main() -> None:
    """Serve one peer until stdin ends."""
    name, dsn, connections = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the library prints goes to stderr
    try:
        peer = importlib.import_module(f"benchmarks.peers.{name}").Peer(dsn, int(connections))
        asyncio.run(_serve(peer, sys.stdin, answers))
    except Exception as error:  # noqa: BLE001 - the other side tells it
        traceback.print_exc()
        _answer(answers, {"failed": f"{type(error).__name__}: {error}"})
        sys.exit(1)
