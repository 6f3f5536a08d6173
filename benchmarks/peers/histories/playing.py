"""The library's side: writers, readers of streams and a follower of the log, and the history of what each was told.

This module imports nothing but the standard library, because the libraries' environments share it.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from math import inf
from typing import Any, ClassVar, Final, NamedTuple
from uuid import UUID

WRITERS: Final = 16
SHARED: Final = 4
"""Streams that all writers append to; each has one of its own besides."""
APPENDS: Final = 60
"""Appends of each writer."""
LARGEST: Final = 30
"""Events of the largest append: a transaction that takes longer than others is what followers stumble over."""
PAGE: Final = 500
CONNECTIONS: Final = WRITERS + 4
_OWN: Final = 0.5
"""How often a writer appends to its own stream."""
_SELDOM: Final = 0.2
"""How often a writer reads a stream before it appends, and how often it expects any version."""
_QUIET: Final = 2.0
"""Seconds without anything new after which a follower has read all that it will ever read."""
_BREATH: Final = 0.001
"""Seconds between two questions: enough for others to have their turn."""
_ANY: Final = -2
"""How histories write that any version is expected."""


class Conflict(Exception):  # noqa: N818 - an answer, not an error
    """The stream is at another version than the expected one."""

    def __init__(self, actual: int | None = None) -> None:
        super().__init__(actual)
        self.actual = actual
        """At which, if the library says so."""


class Unsupported(Exception):  # noqa: N818 - no error: the library has no such thing
    """The library does not offer this."""


class Shown(NamedTuple):
    """An event as a reader was shown it."""

    position: int | None
    """Its place in the log; None if this reader is not told."""
    stream: str
    version: int
    """From 1, whatever the library counts from."""
    token: str
    """What tells it from all others; its writer chose it."""


class Appended(NamedTuple):
    """What an append was answered, as far as the library says."""

    first_version: int | None = None
    position: int | None = None
    """The last event's."""


class Subject(ABC):
    """A library, as its users run it.

    Args:
        dsn: A database: empty, and for the framework itself migrated.
    """

    blocks: ClassVar[bool] = False
    """Whether its coroutines wait for nothing but the database, and are run by threads."""
    takes_any: ClassVar[bool] = True
    """Whether it appends without an expected version."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn

    @abstractmethod
    async def open(self) -> None:
        """Connect, and make the tables as the library's documentation says."""

    @abstractmethod
    async def close(self) -> None:
        """Disconnect."""

    @abstractmethod
    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        """Append an event for each token in one transaction.

        Raises:
            Conflict: The stream is at another version.
        """

    @abstractmethod
    async def read_stream(self, stream: UUID) -> list[Shown]:
        """Read a stream as a whole."""

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:  # noqa: ARG002 - the interface's
        """Read a page of the log behind a place (None for the beginning), and return the place to go on from."""
        raise Unsupported("it has no log over all streams")


class Play:
    """One run of the workload.

    Args:
        subject: An open library.
        seed: Decides what the writers do.
        appends: Appends of each writer.
    """

    def __init__(self, subject: Subject, seed: int, appends: int = APPENDS) -> None:
        self._subject = subject
        self._seed = seed
        self._many = appends
        chance = random.Random(seed)
        self._streams = [UUID(int=chance.getrandbits(128), version=4) for _ in range(SHARED + WRITERS)]
        self._threads = ThreadPoolExecutor(CONNECTIONS)
        self._written = asyncio.Event()
        self._appends: list[dict[str, Any]] = []
        self._log_reads: list[dict[str, Any]] = []
        self._stream_reads: list[dict[str, Any]] = []

    async def history(self) -> dict[str, Any]:
        """Write and read; return what JSON can hold of the history. The log is None where there is none."""
        readers = [asyncio.create_task(self._follow()), asyncio.create_task(self._reread())]
        await asyncio.gather(*map(self._write, range(WRITERS)))
        self._written.set()
        await asyncio.gather(*readers)
        for stream in self._streams:
            await self._read(stream)
        return {
            "appends": self._appends,
            "log_reads": self._log_reads,
            "stream_reads": self._stream_reads,
            "log": await self._log(),
        }

    # --- writers ---------------------------------------------------------------------------------------------------

    async def _write(self, number: int) -> None:
        chance = random.Random(f"{self._seed}/{number}")
        own, known = self._streams[SHARED + number], dict.fromkeys(self._streams, 0)
        tokens = (f"{number}/{token}" for token in range(sys.maxsize))
        for _ in range(self._many):
            stream = own if chance.random() < _OWN else chance.choice(self._streams[:SHARED])
            if stream is not own and chance.random() < _SELDOM:
                known[stream] = await self._read(stream)
            many = chance.choice([1, 1, 1, 2, LARGEST])
            anywhere = self._subject.takes_any and chance.random() < _SELDOM
            expected = None if anywhere else known[stream]
            known[stream] = await self._append(stream, expected, [next(tokens) for _ in range(many)])

    async def _append(self, stream: UUID, expected: int | None, tokens: list[str]) -> int:
        """Append, and return the stream's version as far as it is known then."""
        call = {"stream_id": str(stream), "event_ids": tokens, "expected": _ANY if expected is None else expected}
        called = time.monotonic()
        told: dict[str, Any]
        try:
            answer = await self._run(self._subject.append(stream, expected, tokens))
        except Conflict as conflict:
            told = {"outcome": "conflict", "actual": conflict.actual}
        except Exception as error:  # noqa: BLE001 - it does not say whether the events are there: that is an answer too
            told = {"outcome": "unknown", "reason": f"{type(error).__name__}: {error}", "over": inf}
        else:
            told = {"outcome": "acknowledged", **answer._asdict()}
        answered = time.monotonic()
        self._appends.append({**call, "called": called, "answered": answered, "over": answered, **told})
        if told["outcome"] == "acknowledged" and expected is not None:
            return expected + len(tokens)
        return told.get("actual") or await self._read(stream)

    # --- readers ---------------------------------------------------------------------------------------------------

    async def _read(self, stream: UUID) -> int:
        """Read a stream, and return its version as far as it was shown."""
        begun = time.monotonic()
        events = await self._run(self._subject.read_stream(stream))
        read = {"stream_id": str(stream), "begun": begun, "ended": time.monotonic(), "events": events}
        self._stream_reads.append(read)
        return len(events)

    async def _reread(self) -> None:
        """Read the shared streams over and over, for as long as there are writers."""
        chance = random.Random(f"{self._seed}/reader")
        while not self._written.is_set():
            await self._read(chance.choice(self._streams[:SHARED]))
            await asyncio.sleep(_BREATH)

    async def _follow(self) -> None:
        """Read on in the log behind the last place, until some time after the last event."""
        place: Any = None
        quiet_since = time.monotonic()
        while not (self._written.is_set() and time.monotonic() - quiet_since > _QUIET):
            begun = time.monotonic()
            try:
                events, place = await self._run(self._subject.read_log(place))
            except Unsupported:
                return
            ended = time.monotonic()
            read = {"reader": "follower", "begun": begun, "ended": ended, "events": events, "drained": not events}
            self._log_reads.append(read)
            if events:
                quiet_since = ended
            await asyncio.sleep(_BREATH)

    async def _log(self) -> list[Shown] | None:
        """Return the log when nothing is under way any more; None where there is none."""
        log: list[Shown] = []
        place: Any = None
        while True:
            try:
                events, place = await self._run(self._subject.read_log(place))
            except Unsupported:
                return None
            if not events:
                return log
            log += events

    async def _run(self, call: Coroutine[Any, Any, Any]) -> Any:
        if self._subject.blocks:
            return await asyncio.get_running_loop().run_in_executor(self._threads, _finished, call)
        return await call


def _finished(call: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that waits for no event loop to its end."""
    try:
        call.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a blocking library waited for the event loop")


async def play(subject: Subject, seed: int, appends: int = APPENDS) -> dict[str, Any]:
    """Open a library, run the workload on it, and return its history."""
    await subject.open()
    try:
        return await Play(subject, seed, appends).history()
    finally:
        await subject.close()
