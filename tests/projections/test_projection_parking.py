"""An event that cannot be applied is tried again, then its stream is held back, and nothing is dropped in silence."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, EventStore, Park, Projection, ProjectionContext, RecordedEvent, Stop, rebuild
from eventstore.errors import (
    ConfigurationError,
    InvalidArgumentError,
    NewerSchemaVersionError,
    NotParkedError,
    ProjectionFailedError,
    TooManyParkedStreamsError,
)
from eventstore.lifecycle import Backoff
from eventstore.projections import (
    ParkedStream,
    ParkedStreams,
    ProjectionWorker,
    discard_parked,
    replay_all_parked,
    replay_parked,
)
from fixtures.projecting import checkpoint, clean_fold, fill, positions, project_all, rows, sales, started
from fixtures.shop import OrderPlaced, placed

QUICKLY: dict[str, Any] = {"first": 0.001, "longest": 0.002}
PARK = Park(attempts=2, **QUICKLY)


class PoisonError(Exception):
    """What a handler fails with."""


class Poison:
    """Fails on events of these quantities, until it is told otherwise."""

    def __init__(self, *quantities: int) -> None:
        self.quantities = set(quantities)
        self.tried: Counter[int] = Counter()

    async def __call__(self, event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
        self.tried[event.data.quantity] += 1
        if event.data.quantity in self.quantities:
            raise PoisonError(f"secret-{event.data.sku}")


async def parked(store: EventStore, consumer: str = "sales@1") -> list[ParkedStream]:
    return await ParkedStreams(store.database, consumer).held()


async def place(store: EventStore, stream_id: str, *quantities: int) -> None:
    for quantity in quantities:
        await store.append(stream_id, [placed(quantity, stream_id[-1])], expected_version=ANY)


async def without(store: EventStore, stream_id: str, from_version: int) -> dict[str, int]:
    """Return a clean fold of everything but a stream's rest."""
    counted: Counter[str] = Counter()
    async for event in store.read_all(of=OrderPlaced):
        if event.stream_id != stream_id or event.stream_version < from_version:
            counted[event.data.sku] += event.data.quantity
    return dict(counted)


@pytest.fixture
async def three_streams(store: EventStore) -> EventStore:
    """A log of three interleaved streams of five events; order-b has a 7 as its third."""
    for number in range(5):
        for name in "abc":
            await place(store, f"order-{name}", 7 if (name, number) == ("b", 2) else 1)
    return store


# --- holding back ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("batch", [1, 4, 500])
async def test_a_poisoned_event_holds_its_own_stream_back_and_no_other(
    three_streams: EventStore,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    when: str,
) -> None:
    monkeypatch.setattr("eventstore.projections.worker.BATCH", batch)
    declared: dict[str, Any] = {"on_failure": PARK, when: Poison(7)}
    projection = sales(**declared)
    store = three_streams

    await project_all(store, projection)
    assert await rows(connection) == await without(store, "order-b", 3)
    assert (await checkpoint(store)).position == (await positions(store))[-1]

    await place(store, "order-b", 5)
    await place(store, "order-a", 5)
    await project_all(store, projection)  # another worker, which has to find out
    assert await rows(connection) == await without(store, "order-b", 3)


async def test_what_is_parked_says_which_event_and_why_and_shows_no_payload(three_streams: EventStore) -> None:
    await project_all(three_streams, sales(on_failure=PARK, before=Poison(7)))

    (found,) = await parked(three_streams)

    (event,) = await three_streams.read_stream("order-b", from_version=3, limit=1).to_list()
    assert (found.consumer, found.stream_id, found.from_version) == ("sales@1", "order-b", 3)
    assert (found.event_id, found.event_type, found.from_position) == (
        event.event_id,
        "OrderPlaced",
        int(str(event.position)),
    )
    assert (found.error_type, found.attempts, found.last_version, found.held) == ("PoisonError", 2, 5, 3)
    assert "test_projection_parking.py" in found.error
    assert "in __call__" in found.error
    assert "secret" not in str(found)


async def test_postgres_own_refusal_is_told_by_its_facts_and_not_by_its_text(three_streams: EventStore) -> None:
    async def twice(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.data.quantity == 7:
            await ctx.connection.execute("INSERT INTO sales VALUES ('secret', 1), ('secret', 2)")

    await project_all(three_streams, sales(on_failure=PARK, before=twice))

    (found,) = await parked(three_streams)
    assert found.error_type == "UniqueViolationError"
    assert "constraint_name: sales_pkey" in found.error
    assert "secret" not in found.error


async def test_an_event_is_tried_again_before_it_is_given_up(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    """What fails a few times and then works is applied, and nothing is parked."""
    poison = Poison(7)

    async def twice(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if poison.tried[7] == 3:
            poison.quantities.clear()
        await poison(event, ctx)

    await project_all(three_streams, sales(on_failure=Park(attempts=3, **QUICKLY), before=twice))

    assert poison.tried[7] == 4  # once in the batch, then alone
    assert await parked(three_streams) == []
    assert await rows(connection) == await clean_fold(three_streams)


async def test_an_error_that_the_handler_has_caught_is_still_its_events(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    """PostgreSQL has ended the transaction, which shows only at the next statement, of another event."""

    async def swallow(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.data.quantity == 7:
            with contextlib.suppress(asyncpg.DivisionByZeroError):
                await ctx.connection.execute("SELECT 1/0")

    await project_all(three_streams, sales(on_failure=PARK, after=swallow))

    assert [(one.stream_id, one.from_version) for one in await parked(three_streams)] == [("order-b", 3)]
    assert await rows(connection) == await without(three_streams, "order-b", 3)


async def test_what_is_checked_at_the_commit_only_is_parked_too(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    setup = (
        "CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL);"
        "CREATE TABLE sevens (n bigint UNIQUE DEFERRABLE INITIALLY DEFERRED); INSERT INTO sevens VALUES (7)"
    )

    async def note(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.data.quantity == 7:
            await ctx.connection.execute("INSERT INTO sevens VALUES (7)")

    await project_all(three_streams, sales(setup=setup, on_failure=PARK, after=note))

    assert [(one.stream_id, one.error_type) for one in await parked(three_streams)] == [
        ("order-b", "UniqueViolationError")
    ]
    assert await rows(connection) == await without(three_streams, "order-b", 3)


async def test_an_event_that_cannot_be_read_is_parked(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("ALTER TABLE eventstore.events DISABLE TRIGGER USER")
    await connection.execute(
        "UPDATE eventstore.events SET data = '{}' WHERE stream_id = 'order-b' AND stream_version = 3"
    )
    expected: Counter[str] = Counter({"a": 5, "b": 2, "c": 5})

    await project_all(three_streams, sales(on_failure=PARK))

    assert [(one.stream_id, one.from_version) for one in await parked(three_streams)] == [("order-b", 3)]
    assert await rows(connection) == expected


async def test_what_newer_code_has_written_stops_the_worker_and_is_not_parked(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    """In a rolling deployment the old worker would park the world."""
    await connection.execute("ALTER TABLE eventstore.events DISABLE TRIGGER USER")
    await connection.execute("UPDATE eventstore.events SET schema_version = 9 WHERE stream_version = 3")

    with pytest.raises(NewerSchemaVersionError):
        await project_all(three_streams, sales(on_failure=PARK))

    assert await parked(three_streams) == []


async def test_above_the_limit_the_worker_stops(store: EventStore, connection: asyncpg.Connection) -> None:
    for name in "abcde":
        await place(store, f"order-{name}", 1, 7)

    for _ in range(2):
        with pytest.raises(TooManyParkedStreamsError, match="mend the handler") as refused:
            await project_all(store, sales(on_failure=Park(attempts=1, limit=3), before=Poison(7)))
        assert (refused.value.limit, refused.value.stream_id) == (3, "order-d")
    assert len(await parked(store)) == 3

    await project_all(store, sales(on_failure=PARK))  # the mended handler
    assert await rows(connection) == {"a": 1, "b": 1, "c": 1, "d": 8, "e": 8}


async def test_to_stop_is_to_stop_right_before_the_event_after_all_attempts(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    poison = Poison(7)
    policy = Stop(attempts=4, **QUICKLY)

    with pytest.raises(ProjectionFailedError, match="PoisonError"):
        await project_all(three_streams, sales(on_failure=policy, before=poison))

    assert poison.tried[7] == 1 + 4
    assert await rows(connection) == {"a": 3, "b": 2, "c": 2}
    assert await parked(three_streams) == []


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


# --- batches ---------------------------------------------------------------------------------------------------------


def batched(poison: Poison | None = None, **declared: Any) -> Projection:
    """Declare the same read model with a handler of batches."""
    projection = Projection("sales", **({"setup": "CREATE TABLE sales (sku text PRIMARY KEY, n bigint)"} | declared))

    @projection.on_batch(OrderPlaced)
    async def count(events: Sequence[RecordedEvent[OrderPlaced]], ctx: ProjectionContext) -> None:
        for event in events:
            await (poison or Poison())(event, ctx)
        await ctx.connection.executemany(
            "INSERT INTO sales VALUES ($1, $2) ON CONFLICT (sku) DO UPDATE SET n = sales.n + excluded.n",
            [(event.data.sku, event.data.quantity) for event in events],
        )

    return projection


async def test_a_handler_of_batches_is_divided_until_the_event_that_fails_stands_alone(
    three_streams: EventStore, connection: asyncpg.Connection
) -> None:
    await project_all(three_streams, batched(Poison(7), on_failure=PARK))

    assert [(one.stream_id, one.from_version) for one in await parked(three_streams)] == [("order-b", 3)]
    assert await rows(connection) == await without(three_streams, "order-b", 3)

    await replay_parked(three_streams, batched(), "order-b")
    assert await rows(connection) == await clean_fold(three_streams)


# --- declarations ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Park(attempts=0),
        lambda: Park(limit=0),
        lambda: Stop(attempts=0),
        lambda: Stop(first=0),
        lambda: Park(first=5, longest=1),
        lambda: sales(on_failure="park"),
        lambda: sales(on_failure=Park(), inline=True),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        wrong()


async def test_the_wait_between_attempts_grows(three_streams: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    wait = Backoff.wait

    async def note(backoff: Backoff) -> None:
        waits.append(backoff._next)
        await wait(backoff)

    monkeypatch.setattr(Backoff, "wait", note)
    policy = Stop(attempts=5, first=0.01, longest=0.03)
    with pytest.raises(ProjectionFailedError):
        await project_all(three_streams, sales(on_failure=policy, before=Poison(7)))

    assert waits == [0.01, 0.02, 0.03, 0.03]
