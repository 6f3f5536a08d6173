"""Time and identity, injected everywhere so that tests decide both."""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from struct import Struct
from threading import local
from typing import Final

Clock = Callable[[], datetime]
"""Returns the current time, aware, in UTC."""

IdGenerator = Callable[[], uuid.UUID]
"""Returns a fresh event id."""

_TIMED = 7
_RANDOM_BITS = 80
_UUID7_BITS = 0x7 << 76 | 0x2 << 62
_UUID7_MASK = ~(0xF << 76 | 0x3 << 62)

_COMMAND_NAMESPACE = uuid.UUID("6f0f7a52-6a1a-5c4e-9d51-0c9f3a3b7e11")


def system_clock() -> datetime:
    """Return the machine's time in UTC."""
    return datetime.now(UTC)


class _SystemRandom(local):
    """Random numbers of the system's, fetched many at a time: to ask for each was 3.6 % of what an append costs.

    Each thread has some of its own, and a process that `os.fork` makes begins anew, so that no two are given the same.
    Of copies that Python does not hear of (a machine's snapshot), only the time in an id tells the first 256 apart.
    """

    _PAIRS: Final = Struct(">QQ")
    _AT_A_TIME: Final = 256

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Use none of those that were fetched."""
        self._fetched: Iterator[tuple[int, ...]] = iter(())

    def pair(self) -> tuple[int, ...]:
        """Return two numbers of 64 bits."""
        for pair in self._fetched:
            return pair
        self._fetched = self._PAIRS.iter_unpack(os.urandom(self._PAIRS.size * self._AT_A_TIME))
        return next(self._fetched)


_random = _SystemRandom()
if sys.platform != "win32":
    os.register_at_fork(after_in_child=_random.forget)


def uuid7() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    high, low = _random.pair()
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | (high & 0xFFFF) << 64 | low
    # What the constructor does after checks that cost more than all the rest: it is made for every event.
    made = object.__new__(uuid.UUID)
    object.__setattr__(made, "int", value & _UUID7_MASK | _UUID7_BITS)
    object.__setattr__(made, "is_safe", uuid.SafeUUID.unknown)
    return made


def command_event_id(command_id: str, stream_id: str, number: int) -> uuid.UUID:
    """Derive the id of a command's `number`-th event (from 0) in a stream: a repeated command repeats its ids.

    The time of a command id that is a UUIDv7 is theirs too. They grow like those of other events then, and the index of
    ids grows at its end; ids that are nothing but a hash take it a page at random each.
    """
    derived = uuid.uuid5(_COMMAND_NAMESPACE, f"{command_id}\x00{stream_id}\x00{number}")
    try:
        command = uuid.UUID(command_id)
    except ValueError:
        return derived
    if command.version != _TIMED:
        return derived
    value = command.int >> _RANDOM_BITS << _RANDOM_BITS | derived.int & ((1 << _RANDOM_BITS) - 1)
    return uuid.UUID(int=value & _UUID7_MASK | _UUID7_BITS)
