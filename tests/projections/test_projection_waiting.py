"""A service reads its own writes: it waits for a projection whose worker runs wherever it may."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, EventStore, Park, ProjectionContext, RecordedEvent
from eventstore.errors import ConfigurationError, NotCaughtUpError, ParkedStreamError, WaitsForItselfError
from eventstore.events import BEGINNING
from eventstore.projections import ProjectionWorker, replay_parked
from eventstore.testing import memory_store
from fixtures.projecting import WITHIN, app_of, rows, sales, started
from fixtures.shop import placed
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy


async def fail_on_seven(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == 7:
        raise ZeroDivisionError


projection = sales(after=fail_on_seven, on_failure=Park(attempts=1))
app = app_of(projection)


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """A service's store: no worker runs in it."""
    async with open_store(dsn, app) as store:
        yield store


@pytest.fixture
async def elsewhere(dsn: str) -> AsyncIterator[None]:
    """A worker that shares nothing with the service but the database."""
    async with open_store(dsn, app) as other, started(ProjectionWorker(other, projection)):
        yield


@pytest.mark.usefixtures("elsewhere")
@pytest.mark.parametrize("named", ["sales", projection], ids=["by name", "itself"])
async def test_what_was_written_is_in_the_read_model_once_it_was_waited_for(
    store: EventStore, connection: asyncpg.Connection, named: Any
) -> None:
    for number in range(1, 6):
        result = await store.append("order-1", [placed(number)], expected_version=ANY)
        await store.wait_for(named, result.position, within=WITHIN)
        assert await rows(connection) == {"tea": sum(range(number + 1))}


async def test_what_nobody_projects_is_waited_for_as_long_as_was_said(store: EventStore) -> None:
    result = await store.append("order-1", [placed()], expected_version=ANY)

    with pytest.raises(NotCaughtUpError, match=r"projection 'sales' .* 0\.1 s: it is at position 0"):
        await store.wait_for("sales", result.position, within=0.1)


async def test_a_time_out_of_the_callers_own_is_the_callers(store: EventStore) -> None:
    result = await store.append("order-1", [placed()], expected_version=ANY)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await store.wait_for("sales", result.position)


@pytest.mark.usefixtures("elsewhere")
async def test_inside_the_transaction_that_has_appended_it_is_refused(store: EventStore) -> None:
    """Readers wait for the transaction, which would wait for them; what is there already is no matter."""
    before = await store.append("order-1", [placed()], expected_version=ANY)
    await store.wait_for("sales", before.position, within=WITHIN)
    async with store.transaction() as tx:
        await store.wait_for("sales", before.position)
        inside = await tx.append("order-2", [placed()], expected_version=ANY)
        await store.wait_for("sales", before.position)
        with pytest.raises(WaitsForItselfError, match="wait after it"):
            await store.wait_for("sales", inside.position)
        beside = await asyncio.create_task(store.append("order-3", [placed()], expected_version=ANY))
        with pytest.raises(WaitsForItselfError):
            await store.wait_for("sales", beside.position)
    await store.wait_for("sales", inside.position, within=WITHIN)


@pytest.mark.usefixtures("elsewhere")
async def test_a_stream_that_is_held_back_is_an_error_and_not_a_wait(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    fine = await store.append("order-1", [placed()], expected_version=ANY)
    poison = await store.append("order-1", [placed(7)], expected_version=ANY)
    behind = await store.append("order-1", [placed()], expected_version=ANY)
    other = await store.append("order-2", [placed()], expected_version=ANY)

    for result in (poison, behind):
        with pytest.raises(ParkedStreamError, match="`eventstore parked show sales order-1`") as refused:
            await store.wait_for("sales", result.position, within=WITHIN)
        assert (refused.value.stream_id, refused.value.from_version) == ("order-1", 2)
    for result in (fine, other):
        await store.wait_for("sales", result.position, within=WITHIN)
    with pytest.raises(ParkedStreamError):
        await store.wait_for("sales", other.position, stream_id="order-1", within=WITHIN)
    await store.wait_for("sales", other.position, stream_id="order-2", within=WITHIN)

    await replay_parked(store, sales(), "order-1")
    await store.wait_for("sales", behind.position, within=WITHIN)
    assert await rows(connection) == {"tea": 10}


async def test_the_beginning_is_reached_before_anything_runs(store: EventStore) -> None:
    await store.wait_for("sales", BEGINNING, within=WITHIN)


async def test_an_inline_projection_is_never_waited_for(dsn: str) -> None:
    inline = sales(inline=True)
    async with open_store(dsn, app_of(inline)) as store:
        result = await store.append("order-1", [placed()], expected_version=ANY)
        await store.wait_for(inline, result.position)


async def test_a_name_that_is_unknown_and_a_store_in_memory_are_refused(store: EventStore) -> None:
    with pytest.raises(ConfigurationError, match="there are: sales"):
        await store.wait_for("sails", BEGINNING)
    with pytest.raises(ConfigurationError, match="in memory"):
        await memory_store(app).wait_for("sales", BEGINNING)


async def test_a_wait_ends_in_time_also_when_nobody_answers_any_more(proxy: TcpProxy) -> None:
    async with open_store(proxy.dsn, app_of(sales())) as store:
        result = await store.append("order-1", [placed(1)], expected_version=ANY)
        proxy.go_deaf()
        async with asyncio.timeout(3):
            with pytest.raises(NotCaughtUpError, match="position 0"):
                await store.wait_for("sales", result.position, within=0.1)
