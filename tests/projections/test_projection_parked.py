"""What is held back can be replayed, discarded with a reason, or built anew; nothing of it is lost or doubled."""

from __future__ import annotations

from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, Park, Stop, rebuild
from eventstore.errors import (
    InvalidArgumentError,
    NotParkedError,
    ParkedElsewhereError,
    ProjectionFailedError,
)
from eventstore.projections import (
    ParkedStreams,
    ProjectionWorker,
    discard_parked,
    replay_all_parked,
    replay_parked,
)
from fixtures.parking import PARK, Poison, parked, place, without
from fixtures.projecting import clean_fold, fill, project_all, rows, sales, started

# --- going on with what is held back ---------------------------------------------------------------------------------


@pytest.fixture
async def held(three_streams: EventStore) -> EventStore:
    """The log of three streams, with order-b parked from its third event on."""
    await project_all(three_streams, sales(on_failure=PARK, before=Poison(7)))
    return three_streams


async def test_a_replay_applies_all_that_was_held_back(held: EventStore, connection: asyncpg.Connection) -> None:
    done = await replay_parked(held, sales(on_failure=PARK), "order-b")

    assert (done.events, done.parked) == (3, None)
    assert await parked(held) == []
    assert await rows(connection) == await clean_fold(held)
    await fill(held, 3)
    await project_all(held, sales(on_failure=PARK))
    assert await rows(connection) == await clean_fold(held)


async def test_a_replay_that_fails_again_changes_nothing_and_counts(
    held: EventStore, connection: asyncpg.Connection
) -> None:
    before = await rows(connection)

    done = await replay_parked(held, sales(on_failure=PARK, after=Poison(7)), "order-b")

    assert done.events == 0
    assert done.parked is not None
    assert (done.parked.from_version, done.parked.attempts) == (3, 3)
    assert await rows(connection) == before


async def test_a_replay_goes_as_far_as_it_can(held: EventStore, connection: asyncpg.Connection) -> None:
    await place(held, "order-b", 8, 1)
    await project_all(held, sales(on_failure=PARK))

    done = await replay_parked(held, sales(on_failure=PARK, after=Poison(8)), "order-b")

    assert (done.events, done.parked and done.parked.from_version) == (3, 6)
    assert await rows(connection) == await without(held, "order-b", 6)
    await replay_parked(held, sales(on_failure=PARK), "order-b")
    assert await rows(connection) == await clean_fold(held)


async def test_a_replay_stops_where_the_worker_has_come(held: EventStore, connection: asyncpg.Connection) -> None:
    """What lies behind the checkpoint is the worker's: applied now, it would be applied twice."""
    await place(held, "order-b", 4, 4)

    done = await replay_parked(held, sales(), "order-b")
    assert done.events == 3

    await project_all(held, sales())
    assert await rows(connection) == await clean_fold(held)


async def test_replays_beside_a_busy_worker_neither_lose_nor_double(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    projection, mended = sales(on_failure=Park(attempts=1), before=Poison(7)), sales(on_failure=PARK)
    worker = ProjectionWorker(store, projection)
    async with started(worker):
        for _ in range(8):
            for name in "abc":
                await place(store, f"order-{name}", 1, 7 if name == "b" else 1, 1)
            async for _ in replay_all_parked(store, mended):
                pass
        await worker.progress.caught_up(store.log)
    async for _ in replay_all_parked(store, mended):
        pass

    assert await parked(store) == []
    assert await rows(connection) == await clean_fold(store)


async def test_discarding_goes_on_without_the_event_and_keeps_who_did_so_and_why(
    held: EventStore, connection: asyncpg.Connection
) -> None:
    done = await discard_parked(held, sales(), "order-b", by="alice", reason="entered twice")

    assert (done.events, done.parked) == (2, None)
    assert await rows(connection) == {"a": 5, "b": 4, "c": 5}
    (note,) = await ParkedStreams(held.database, "sales@1").discarded()
    assert (note.stream_id, note.stream_version, note.discarded_by, note.reason) == (
        "order-b",
        3,
        "alice",
        "entered twice",
    )
    assert note.error_type == "PoisonError"


async def test_another_event_than_the_one_that_was_shown_is_not_discarded(held: EventStore) -> None:
    """Between showing and deciding somebody may have replayed the stream, as far as it goes."""
    (shown,) = await parked(held)
    with pytest.raises(ParkedElsewhereError, match="from version 3 on, not from 2"):
        await discard_parked(held, sales(), "order-b", by="alice", reason="why", version=2)
    assert await parked(held) == [shown]
    assert await ParkedStreams(held.database).discarded() == []

    await discard_parked(held, sales(), "order-b", by="alice", reason="why", version=shown.from_version)
    assert await parked(held) == []


async def test_nothing_is_discarded_without_a_name_and_a_reason(held: EventStore) -> None:
    for by, reason in (("", "why"), ("alice", " ")):
        with pytest.raises(InvalidArgumentError, match="needs a name"):
            await discard_parked(held, sales(), "order-b", by=by, reason=reason)
    assert len(await parked(held)) == 1


async def test_what_is_not_parked_cannot_be_replayed_or_discarded(held: EventStore) -> None:
    with pytest.raises(NotParkedError, match="order-a"):
        await replay_parked(held, sales(), "order-a")
    with pytest.raises(NotParkedError):
        await discard_parked(held, sales(), "order-a", by="alice", reason="why")
    with pytest.raises(NotParkedError):
        await replay_parked(held, sales("other"), "order-b")


# --- rebuilds --------------------------------------------------------------------------------------------------------


async def test_a_rebuild_forgets_what_was_parked(held: EventStore, connection: asyncpg.Connection) -> None:
    await rebuild(held, sales(on_failure=PARK))

    assert await parked(held) == []
    assert await rows(connection) == await clean_fold(held)


async def test_a_rebuild_parks_by_the_same_policy_and_its_worker_goes_on_from_there(
    held: EventStore, connection: asyncpg.Connection
) -> None:
    poisoned = sales(on_failure=PARK, before=Poison(8))
    await place(held, "order-c", 8)

    await rebuild(held, poisoned)

    assert [(one.consumer, one.stream_id) for one in await parked(held)] == [("sales@1", "order-c")]
    assert await rows(connection) == await without(held, "order-c", 6)
    await place(held, "order-c", 1)
    await project_all(held, poisoned)
    assert await rows(connection) == await without(held, "order-c", 6)
    await replay_parked(held, sales(), "order-c")
    assert await rows(connection) == await clean_fold(held)


async def test_a_rebuild_that_stops_leaves_what_is_parked_behind_the_tables_in_use(held: EventStore) -> None:
    with pytest.raises(ProjectionFailedError):
        await rebuild(held, sales(on_failure=Stop(attempts=1), before=Poison(1)))

    assert [one.stream_id for one in await parked(held)] == ["order-b"]
    assert await parked(held, "sales@1_rebuild") == []


async def test_a_rebuild_tries_what_was_discarded_again(held: EventStore, connection: asyncpg.Connection) -> None:
    await discard_parked(held, sales(), "order-b", by="alice", reason="why")

    await rebuild(held, sales())

    assert await rows(connection) == await clean_fold(held)


async def test_a_rebuild_of_the_users_own_tables_forgets_what_was_parked(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("CREATE TABLE public.sales (sku text PRIMARY KEY, n bigint NOT NULL)")
    own: dict[str, Any] = {"setup": None, "tables": ["public.sales"], "on_failure": PARK}
    await project_all(three_streams, sales(before=Poison(7), **own))
    assert len(await parked(three_streams)) == 1

    await rebuild(three_streams, sales(**own))

    assert await parked(three_streams) == []
    assert await rows(connection, "public") == await clean_fold(three_streams)
