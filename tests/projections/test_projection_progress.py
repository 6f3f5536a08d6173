"""A checkpoint moves together with the read model, over every event that was read, and only on its own log."""

from __future__ import annotations

import uuid
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore, Metadata, Projection, ProjectionContext, RecordedEvent, rebuild
from eventstore.errors import (
    ClosedError,
    ConfigurationError,
    LeaseLostError,
    LogMismatchError,
    NotCaughtUpError,
    ProjectionFailedError,
)
from eventstore.projections import ProjectionRunner, ProjectionWorker
from eventstore.store.log import LogRange
from eventstore.subscriptions import Checkpoint, Checkpoints, Leases, LogFollower
from fixtures import shop
from fixtures.projecting import (
    app_of,
    before_the_first_checkpoint_moves,
    checkpoint,
    clean_fold,
    fill,
    positions,
    project_all,
    rows,
    sales,
    started,
)
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, OrderShipped, placed
from fixtures.stores import connected, open_store


class BoomError(Exception):
    """What a handler fails with."""


async def fail_on_seven(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == 7:
        raise BoomError


async def test_the_read_model_says_what_the_log_says(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 10)

    await project_all(store, sales())

    assert await rows(connection) == await clean_fold(store)


async def test_what_is_applied_is_not_applied_again(store: EventStore, connection: asyncpg.Connection) -> None:
    await fill(store, 4)
    await project_all(store, sales())
    await fill(store, 4)
    await project_all(store, sales())
    await project_all(store, sales())

    assert await rows(connection) == await clean_fold(store)


@pytest.mark.parametrize("fails", ["before", "after"])
async def test_a_handler_that_fails_leaves_tables_and_checkpoint_right_before_its_event(
    store: EventStore, connection: asyncpg.Connection, fails: str
) -> None:
    projection = sales(before=fail_on_seven) if fails == "before" else sales(after=fail_on_seven)
    await store.append("order-1", [placed(1), placed(2)], expected_version=NO_STREAM)
    await project_all(store, projection)
    appended = await store.append("order-2", [placed(5), placed(7), placed(3)], expected_version=NO_STREAM)

    for _ in range(2):
        with pytest.raises(ProjectionFailedError):
            await project_all(store, projection)

        assert (await checkpoint(store)).event_id == appended.event_ids[0]
        assert await rows(connection) == {"tea": 8}

    await project_all(store, sales())  # the mended handler
    assert await rows(connection) == await clean_fold(store) == {"tea": 18}


async def test_the_failure_names_the_event_and_shows_no_payload(store: EventStore) -> None:
    await store.append("order-1", [placed(1), placed(7, "secret-tea")], expected_version=NO_STREAM)

    with pytest.raises(ProjectionFailedError) as failure:
        await project_all(store, sales(after=fail_on_seven))

    error = failure.value
    assert (error.projection, error.event_type, error.stream_id, error.stream_version) == (
        "sales",
        "OrderPlaced",
        "order-1",
        2,
    )
    assert isinstance(error.__cause__, BoomError)
    assert "BoomError" in str(error)
    assert "secret-tea" not in f"{error} {error!r} {vars(error)}"


async def test_sql_that_postgres_refuses_is_a_failure_without_its_values(store: EventStore) -> None:
    async def wrong(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        await ctx.connection.execute("INSERT INTO sales VALUES ($1, 1), ($1, 2)", event.data.sku)

    await store.append("order-1", [placed(1, "secret-tea")], expected_version=NO_STREAM)

    with pytest.raises(ProjectionFailedError, match="UniqueViolationError") as failure:
        await project_all(store, sales(before=wrong))

    assert "secret-tea" not in f"{failure.value} {failure.value!r} {vars(failure.value)}"


async def test_events_that_are_not_wanted_move_the_checkpoint_too(store: EventStore) -> None:
    await store.append("order-1", [placed(1)], expected_version=NO_STREAM)
    await store.append("note-1", [NoteTaken(text="x")] * 5, expected_version=NO_STREAM)

    await project_all(store, sales())

    last = await store.read_stream("note-1", from_version=5).to_list()
    assert (await checkpoint(store)).position == (await positions(store))[-1]
    assert (await checkpoint(store)).event_id == last[0].event_id


async def test_an_upcast_event_reaches_the_handler_as_its_newest_version(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("INSERT INTO eventstore.streams (stream_id) VALUES ('order-1')")
    await connection.execute(
        "INSERT INTO eventstore.events (stream_id, stream_version, event_id, event_type, schema_version, data,"
        " occurred_at, recorded_at)"
        " VALUES ('order-1', 1, gen_random_uuid(), 'OrderPlaced', 1, '{\"sku\": \"old\"}', now(), now())"
    )

    await project_all(store, sales())

    assert await rows(connection) == {"old": 1}


# --- checkpoints that do not fit ---------------------------------------------------------------------------------


async def test_a_checkpoint_at_another_event_stops_the_worker(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    await project_all(store, sales())
    before = await rows(connection)
    await connection.execute("UPDATE eventstore.checkpoints SET event_id = $1", uuid.uuid4())
    await fill(store, 1)

    with pytest.raises(LogMismatchError, match="sales@1"):
        await project_all(store, sales())

    assert await rows(connection) == before


async def test_a_checkpoint_past_the_end_of_the_log_stops_the_worker(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    await project_all(store, sales())
    await connection.execute("UPDATE eventstore.checkpoints SET global_position = 99")

    with pytest.raises(LogMismatchError, match="99"):
        await project_all(store, sales())


async def test_nothing_is_applied_from_a_place_that_somebody_else_has_moved(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    runner = ProjectionRunner(store, sales())
    batch = await LogFollower(store.log, Checkpoint(), wanted=LogRange()).next_now()
    assert batch is not None
    name, to = runner.consumer_name, batch.checkpoint

    async def advance(session: Any) -> None:
        await Checkpoints(session).advance(name, since=Checkpoint(), to=to)

    async with runner.opened():
        await runner.apply(batch.events, session_hook=advance)
        with pytest.raises(LeaseLostError):
            await runner.apply(batch.events, session_hook=advance)

    assert await rows(connection) == await clean_fold(store)


async def test_a_worker_whose_checkpoint_was_moved_goes_on_from_there(
    dsn: str, store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Moved once its batch had been read, by somebody who has applied the first event meanwhile."""

    async def interfere() -> None:
        first = (await store.read_all(limit=1).to_list())[0]
        async with connected(dsn) as other, other.transaction():
            await other.execute("INSERT INTO sales_v1.sales VALUES ('other', 100)")
            await Checkpoints(store.database.session(other)).advance(
                "sales@1", since=Checkpoint(), to=Checkpoint(int(str(first.position)), first.event_id)
            )

    await fill(store, 3)
    before_the_first_checkpoint_moves(monkeypatch, interfere)
    await project_all(store, sales())

    assert await rows(connection) == {"other": 100, "b": 2, "c": 3}


async def test_a_runner_that_is_not_opened_refuses(store: EventStore) -> None:
    async def hook(_session: Any) -> None:
        """Move nothing."""

    with pytest.raises(ClosedError):
        await ProjectionRunner(store, sales()).apply([], session_hook=hook)


# --- what handlers cause -------------------------------------------------------------------------------------------


async def test_what_a_handler_appends_is_caused_by_its_event(dsn: str, store: EventStore) -> None:
    async def follow(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        async with store.bind(ctx.connection) as tx:
            await tx.append("note-1", [NoteTaken(text="bound")], expected_version=ANY)
        await store.append("note-2", [NoteTaken(text="apart")], expected_version=ANY)

    await store.append(
        "order-1", [placed()], expected_version=NO_STREAM, metadata=Metadata(correlation_id="request", actor="alice")
    )
    await project_all(store, sales(after=follow))

    (cause,) = await store.read_stream("order-1").to_list()
    expected = Metadata(correlation_id="request", causation_id=str(cause.event_id), actor="alice")
    async with open_store(dsn) as other:
        notes = await other.read_all(of=NoteTaken).to_list()
    assert [note.metadata for note in notes] == [expected, expected]


async def test_handlers_are_told_that_this_is_no_rebuild(store: EventStore) -> None:
    told = []

    async def note(_event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        told.append(ctx.rebuilding)

    await fill(store, 2)
    await project_all(store, sales(before=note))

    assert told == [False, False]


# --- waiting for it ------------------------------------------------------------------------------------------------


async def test_a_reader_of_its_own_write_waits_for_its_position(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    worker = ProjectionWorker(store, sales())
    async with started(worker):
        result = await store.append("order-1", [placed(4)], expected_version=NO_STREAM)
        await worker.progress.wait_for(result.position)

        assert await rows(connection) == {"tea": 4}


async def test_whoever_waits_hears_what_the_worker_failed_with(store: EventStore) -> None:
    worker = ProjectionWorker(store, sales(before=fail_on_seven))
    async with started(worker):
        result = await store.append("order-1", [placed(7)], expected_version=NO_STREAM)
        with pytest.raises(ProjectionFailedError, match="order-1"):
            await worker.progress.wait_for(result.position)


async def test_whoever_waits_hears_that_the_worker_was_stopped(store: EventStore) -> None:
    worker = ProjectionWorker(store, sales())
    result = await store.append("note-1", [NoteTaken(text="x")], expected_version=NO_STREAM)
    async with started(worker) as task:
        await worker.progress.wait_for(result.position)
        task.cancel()
        with pytest.raises(ClosedError):
            await worker.progress.until(lambda: False)


async def test_whoever_waits_with_a_bound_hears_how_far_the_worker_has_come(store: EventStore) -> None:
    """A worker that stands by, here behind the lease of another one, may never come."""
    result = await store.append("order-1", [placed()], expected_version=NO_STREAM)
    worker = ProjectionWorker(store, sales())
    async with Leases(store.database).holding("projection:sales@1"), started(worker):
        with pytest.raises(NotCaughtUpError, match=r"'sales@1' .* 0\.2 s: .* position 0, waiting") as refused:
            await worker.progress.caught_up(store.log, within=0.2)
        assert (refused.value.position, refused.value.state, refused.value.retryable) == (0, "waiting", True)
        with pytest.raises(NotCaughtUpError):
            await worker.progress.wait_for(result.position, within=0.01)


async def test_the_applications_workers_end_the_block_when_one_fails(dsn: str) -> None:
    app = app_of(sales(before=fail_on_seven))
    async with open_store(dsn, app) as store:
        with pytest.raises(ProjectionFailedError):
            async with app.workers(store) as workers:
                result = await store.append("order-1", [placed(7)], expected_version=NO_STREAM)
                await workers["sales"].progress.wait_for(result.position)


# --- declarations --------------------------------------------------------------------------------------------------


def test_a_handler_names_its_events() -> None:
    with pytest.raises(ConfigurationError, match="name the events"):
        sales().on()


def test_one_event_has_one_handler() -> None:
    async def again(_event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
        """Do nothing."""

    with pytest.raises(ConfigurationError, match="two handlers for OrderPlaced"):
        sales().on(OrderPlaced)(again)


@pytest.mark.parametrize("tables", [{}, {"setup": "SELECT 1", "tables": ["sales"]}], ids=["neither", "both"])
def test_a_projection_makes_its_tables_or_names_them(tables: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=r"setup= .* or tables="):
        Projection("sales", **tables)


@pytest.mark.parametrize("name", ["", "a b", 'a"b', "1a", "é", "x" * 64])
def test_a_name_that_is_no_identifier_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        Projection(name, setup="SELECT 1")


async def test_one_handler_may_take_several_events(store: EventStore, connection: asyncpg.Connection) -> None:
    seen = Projection("seen", setup="CREATE TABLE seen (event_type text NOT NULL)")

    @seen.on(OrderPlaced, OrderShipped)
    async def note(event: RecordedEvent[Any], ctx: ProjectionContext) -> None:
        await ctx.connection.execute("INSERT INTO seen VALUES ($1)", event.event_type)

    await store.append("order-1", [placed(), SHIPPED], expected_version=NO_STREAM)
    await project_all(store, seen)

    assert await connection.fetchval("SELECT array_agg(event_type) FROM seen_v1.seen") == [
        "OrderPlaced",
        "OrderShipped",
    ]
    assert seen.stored_names(shop.events) == ["OrderPlaced", "OrderShipped"]


async def test_it_takes_only_streams_of_its_categories(store: EventStore, connection: asyncpg.Connection) -> None:
    mine = sales(categories=["order"])
    for stream_id in ("order-1", "note-1", "order-2"):
        await store.append(stream_id, [placed(1, "a")], expected_version=NO_STREAM)

    await project_all(store, mine)
    assert await rows(connection) == {"a": 2}
    await rebuild(store, mine)
    assert await rows(connection) == {"a": 2}


def test_a_projection_of_no_category_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no categories"):
        sales(categories=[])
