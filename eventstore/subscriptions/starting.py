"""Where a reader that has no checkpoint yet begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeAlias, final

from eventstore.db import answering
from eventstore.errors import InvalidArgumentError
from eventstore.events import Position, in_utc, position_number
from eventstore.subscriptions.checkpoints import Checkpoint

if TYPE_CHECKING:
    from eventstore.store import Log

_LOOK_AGAIN: Final = 0.02


@final
class End:
    """The end of the log: only what is settled later is read."""

    def __repr__(self) -> str:
        return "END"


END: Final = End()
"""Begin behind everything that is settled now."""


@final
@dataclass(frozen=True, slots=True)
class RecordedFrom:
    """The first event of the log that was recorded at a time or later."""

    time: datetime


def recorded_from(time: datetime) -> RecordedFrom:
    """Begin at the first event, in the order of the log, that was recorded at a time or later, and read on from there.

    Nothing recorded since then is left out. The log is in the order of positions, so among the first events may be some
    that were recorded just before. `occurred_at` plays no part: it is the business's time, and in any order.

    Args:
        time: When, aware; by the clock of the server.

    Raises:
        InvalidArgumentError: The time is naive.
    """
    return RecordedFrom(in_utc("the time to start from", time))


Start: TypeAlias = Position | End | RecordedFrom


def checked_start(start: object) -> Start:
    """Return a start.

    Raises:
        InvalidArgumentError: It is none.
    """
    if isinstance(start, datetime):
        raise InvalidArgumentError("a time to start from says which time it is: pass recorded_from(time)")
    if not isinstance(start, Position | End | RecordedFrom):
        raise InvalidArgumentError(
            f"{start!r} is no start: pass BEGINNING, END, a Position (it is read after), or recorded_from(time)"
        )
    return start


async def place_of(log: Log, start: Start) -> Checkpoint:
    """Return the last event before a start, as a checkpoint: always one that is settled.

    Raises:
        InvalidArgumentError: The start is a position that the log has not come to.
    """
    mark = await _settled(log)
    if isinstance(start, RecordedFrom):
        first = await log.first_recorded(start.time, mark)  # which may take as long as reading the log does
        up_to = mark if first is None else first - 1
    elif isinstance(start, End):
        up_to = mark
    else:
        up_to = position_number(start)
        if not up_to:
            return Checkpoint()
        while mark < up_to:
            if up_to > await log.last_drawn():
                raise InvalidArgumentError(f"the log has not come to position {up_to}: there is nothing to start after")
            await asyncio.sleep(_LOOK_AGAIN)  # it is being settled
            mark = await _settled(log)
    async with answering():
        last = await log.last_event(up_to)
    return Checkpoint(*last) if last else Checkpoint()


async def _settled(log: Log) -> int:
    async with answering():
        return (await log.settled()).position
