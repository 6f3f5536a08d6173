"""An event that cannot be applied is tried again, then its stream is held back, and nothing is dropped in silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, Park, Projection, ProjectionContext, RecordedEvent, Stop
from eventstore.errors import (
    ConfigurationError,
    NewerSchemaVersionError,
    ProjectionFailedError,
    TooManyParkedStreamsError,
)
from eventstore.lifecycle import Backoff
from eventstore.projections import (
    replay_parked,
)
from eventstore.projections.persevering import BREAKS
from fixtures.parking import PARK, QUICKLY, Poison, parked, place, without
from fixtures.projecting import checkpoint, clean_fold, positions, project_all, rows, sales
from fixtures.shop import OrderPlaced

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
    assert "parking.py" in found.error
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


@pytest.mark.parametrize("how", ["it ends its session", "it idles too long"])
async def test_an_event_at_which_the_connection_breaks_each_time_is_parked(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr("eventstore.lifecycle.random.uniform", lambda *_: 0.02)  # back off for moments only
    tried: list[int] = []

    async def end_it(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        if event.data.quantity != 7:
            return
        tried.append(event.data.quantity)
        if how == "it ends its session":
            await ctx.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")
        else:
            ended = asyncio.Event()
            ctx.connection.add_termination_listener(lambda _: ended.set())
            await ctx.connection.execute("SET LOCAL idle_in_transaction_session_timeout = 1")
            await ended.wait()  # as if for an answer of somebody else

    await place(store, "order-a", 1, 7, 2)
    await place(store, "order-b", 3)
    await project_all(store, sales(before=end_it, on_failure=PARK))

    (held,) = await parked(store)
    assert (held.stream_id, held.from_version, held.error_type) == ("order-a", 2, "BrokenWhileHandlingError")
    assert held.attempts == BREAKS
    assert len(tried) == 2 + BREAKS  # in the batch, until that asks for care; then alone


async def test_an_event_at_which_the_connection_breaks_each_time_stops_a_worker_that_is_to_stop(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.lifecycle.random.uniform", lambda *_: 0.02)

    async def end_it(_: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        await ctx.connection.execute("SELECT pg_terminate_backend(pg_backend_pid())")

    await place(store, "order-a", 1)
    with pytest.raises(ProjectionFailedError, match="BrokenWhileHandlingError"):
        await project_all(store, sales(before=end_it, on_failure=Stop(attempts=1)))
