"""Stretches: from one place on the log to another, read as those read who follow it, for work that comes to an end.

A pool connects again by itself, perhaps to another server. So each batch is read with the event that it follows on, up
to a mark that holds for the very run of the server that answers; and the last one counts only once the event where the
stretch ends was seen after it was read.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

from eventstore.errors import LogMismatchError
from eventstore.subscriptions import Batch, Checkpoint, LogFollower
from eventstore.subscriptions.checkpoints import require_on_log

if TYPE_CHECKING:
    from eventstore.store import Log
    from eventstore.store.log import LogRange


async def read_between(
    log: Log, after: Checkpoint, up_to: Checkpoint, *, wanted: LogRange, batch: int, name: str
) -> AsyncGenerator[Batch, None]:
    """Yield what lies between two events of the log, batch by batch; the last batch ends at the second event.

    Args:
        log: The log.
        after: The first event; nothing is yielded when it is not before the second.
        up_to: The second event, which is part of the stretch.
        wanted: Which events; others are passed over.
        batch: How many events to look at in one batch.
        name: Who reads, for the error.

    Raises:
        LogMismatchError: One of the two events is not on the log any more.
    """
    follower = LogFollower(log, after, wanted=wanted, batch=batch, name=name)
    position = after.position
    while position < up_to.position:
        found = await follower.next_now()
        if found is None:
            raise LogMismatchError(
                name,
                f"the log ends at position {position}, but had events up to {up_to.position} (a failover that lost the "
                "tail, or another database?); find out before you run this again",
            )
        position = found.checkpoint.position
        if position >= up_to.position:
            await require_on_log(log, name, up_to)
            events = [event for event in found.events if event.position <= up_to.position]
            found = found._replace(events=events, checkpoint=up_to.under(after.epoch), behind=0)
        yield found
