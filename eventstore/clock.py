"""Time and identity, injected everywhere so that tests decide both."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

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


def uuid7() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562): 48 bits of Unix milliseconds, then 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(os.urandom(10))
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
