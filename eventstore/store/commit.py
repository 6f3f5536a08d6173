"""COMMIT with a lost answer: finding out whether a transaction of the caller's happened (it cannot be repeated).

It is atomic with its events. On a new connection, wait for a stream that it wrote (its row's lock, or for a stream that
may not exist yet, an insert of the row that is rolled back): then the old transaction has ended. Its ids are there, and
it committed; or they are not, and it was rolled back. `pg_xact_status` is never asked: after a crash it was seen to
call lost transactions committed, because their numbers had been handed out again.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eventstore.errors import CommitOutcomeUnknownError, OutcomeUnknownError, UnavailableError
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
    stream_id, event_ids = next(iter(written.items()))
    backoff = Backoff(first=0.05, most=1.0)
    try:
        async with asyncio.timeout(RESOLVE_SECONDS):
            while True:
                try:
                    return await _is_there(database, stream_id, event_ids[0])
                except UnavailableError:
                    await backoff.wait()
    except TimeoutError:
        raise OutcomeUnknownError(stream_id, event_ids, reason) from None


async def _is_there(database: Database, stream_id: str, event_id: UUID) -> bool:
    async with database.transaction(keep=False) as session:
        if not await session.fetch("await_stream", stream_id):
            await session.fetch("await_new_stream", stream_id)
        return bool(await session.fetch("events_by_ids", stream_id, [event_id]))
