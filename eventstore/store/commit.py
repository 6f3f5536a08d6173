"""COMMIT with a lost answer: finding out whether a transaction of the caller's happened (it cannot be repeated).

It is atomic with its events. On a new connection, wait for a stream that it wrote (its row's lock, or for a stream that
may not exist yet, an insert of the row that is rolled back): then the old transaction has ended. Its ids are there, and
it committed; or they are not, and it was rolled back. A savepoint of the caller's may have undone what was appended to
one stream, and let go of its row: only all streams together prove a rollback. `pg_xact_status` is never asked: after a
crash it was seen to call lost transactions committed, because their numbers had been handed out again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eventstore.errors import ClosedError, CommitOutcomeUnknownError, OutcomeUnknownError
from eventstore.lifecycle import Backoff
from eventstore.store.appending import RESOLVE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from eventstore.db import Database


async def has_committed(database: Database, written: Mapping[str, Sequence[UUID]], reason: str) -> bool:
    """Return whether the transaction that wrote these streams committed.

    Raises:
        CommitOutcomeUnknownError: It wrote no stream, so there is nothing to look for.
        OutcomeUnknownError: The database could not be asked in time.
    """
    if not written:
        raise CommitOutcomeUnknownError(reason)
    backoff = Backoff(first=0.05, most=1.0)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            while True:
                try:
                    return await _any_is_there(database, written)
                except ClosedError:
                    raise
                except Exception:  # noqa: BLE001 - no answer, whatever it is: it says nothing of the transaction
                    await backoff.wait()
    except (TimeoutError, ClosedError):  # closed meanwhile: nobody can be asked any more
        stream_id, event_ids = next(iter(written.items()))
        raise OutcomeUnknownError(stream_id, event_ids, reason) from None


async def _any_is_there(database: Database, written: Mapping[str, Sequence[UUID]]) -> bool:
    for stream_id, event_ids in written.items():
        async with database.transaction(keep=False) as session:  # one at a time, so that nobody is deadlocked
            if not await session.fetch("await_stream", stream_id):
                await session.fetch("await_new_stream", stream_id)
            if await session.fetch("events_by_ids", stream_id, event_ids):
                return True
    return False
