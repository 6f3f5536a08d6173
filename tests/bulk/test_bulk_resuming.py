"""Imports go on from where they were: run again, in twos, beside appenders, and when connections break."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from pydantic import BaseModel, Field

from eventstore import ANY, Application, EventStore, EventTypes
from eventstore.bulk import (
    ImportBusyError,
    ImportChangedError,
    ImportedEvent,
    ImportProgress,
    ImportRowError,
    JsonEvent,
    import_events,
    row_event_id,
)
from fixtures.imports import facts, log, rows
from fixtures.shop import SHIPPED
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy, When


async def test_an_import_that_was_done_does_nothing_the_second_time(store: EventStore) -> None:
    await import_events(store, rows(25), name="old", chunk=10)
    before = facts(await log(store))

    again = await import_events(store, rows(25), name="old", chunk=7)

    assert (again.rows, again.imported) == (25, 0)
    assert facts(await log(store)) == before


async def test_what_a_source_has_more_the_second_time_is_imported(store: EventStore) -> None:
    await import_events(store, rows(25), name="old")
    assert (await import_events(store, rows(300), name="old")).imported == 275

    assert [event.data.quantity for event in await log(store)] == list(range(300))


@pytest.mark.parametrize("stop_after", [1, 2, 3])
async def test_cancelled_in_the_middle_and_run_again_it_is_the_same_log(store: EventStore, stop_after: int) -> None:
    chunks = 0
    task: asyncio.Task[Any]

    def stop(_: ImportProgress) -> None:
        nonlocal chunks
        chunks += 1
        if chunks == stop_after:
            task.cancel()

    task = asyncio.create_task(import_events(store, rows(1000), name="old", chunk=150, on_progress=stop))
    with pytest.raises(asyncio.CancelledError):
        await task
    there = len(await log(store))
    result = await import_events(store, rows(1000), name="old", chunk=150)

    assert there in (150 * stop_after, 150 * stop_after + 150)
    assert (result.rows, result.imported) == (1000, 1000 - there)
    assert [event.event_id for event in await log(store)] == [row_event_id("old", row) for row in range(1, 1001)]
    assert [event.data.quantity for event in await log(store)] == list(range(1000))


async def test_another_source_under_the_same_name_is_refused(store: EventStore) -> None:
    await import_events(store, rows(25), name="old")

    for other in (rows(25, first=1), rows(24), rows(25, streams=5), [*rows(24), ImportedEvent("order-0", SHIPPED)]):
        with pytest.raises(ImportChangedError, match="another name"):
            await import_events(store, other, name="old")
    assert len(await log(store)) == 25


opened = EventTypes()


class Token(BaseModel):
    token: UUID = Field(default_factory=uuid4)
    colour: str = "red"


@opened.register("Opened")
class Opened(BaseModel):
    """An event whose model adds what is another value each time."""

    name: str
    own: Token = Field(default_factory=Token)
    given: list[Token] = []


@pytest.mark.parametrize(
    "data",
    [
        lambda name: Opened(name=name),
        lambda name: Opened(name=name, given=[Token(colour="blue")]),
        lambda name: JsonEvent("Opened", {"name": name}),
        lambda name: JsonEvent("Opened", {"name": name, "given": [{}, {"colour": "blue"}]}),
    ],
    ids=["a model", "a nested model", "JSON", "nested JSON"],
)
async def test_what_a_model_adds_by_itself_does_not_make_it_another_source(
    dsn: str, data: Callable[[str], Opened | JsonEvent]
) -> None:
    def source(count: int, name: str = "x") -> Iterator[ImportedEvent]:
        return (ImportedEvent(f"account-{number}", data(name)) for number in range(count))

    async with open_store(dsn, Application("bank", events=opened)) as store:
        await import_events(store, source(20), name="old", chunk=10)
        assert (await import_events(store, source(30), name="old", chunk=10)).imported == 10

        with pytest.raises(ImportChangedError):
            await import_events(store, source(30, "y"), name="old")


async def test_two_runs_of_one_import_at_once_do_not_double_it(store: EventStore) -> None:
    async def one() -> int:
        try:
            return (await import_events(store, rows(400), name="old", chunk=50)).imported
        except ImportBusyError:
            return 0

    await asyncio.gather(one(), one(), one())
    await import_events(store, rows(400), name="old")

    assert [event.data.quantity for event in await log(store)] == list(range(400))


async def test_a_run_in_step_with_another_one_does_not_take_its_rows_for_its_own(store: EventStore) -> None:
    async def overtaken() -> AsyncIterator[ImportedEvent]:
        """A source that another run is done with once this one has looked how far the import is."""
        await import_events(store, rows(25), name="old")
        for row in rows(25):
            yield row

    with pytest.raises(ImportBusyError):
        await import_events(store, overtaken(), name="old")


async def test_appenders_and_other_imports_on_the_same_streams_lose_nothing(store: EventStore) -> None:
    async def appender(key: int) -> None:
        for _ in range(40):
            await store.append(f"order-{key}", [SHIPPED], expected_version=ANY)

    async def importer(name: str, *, backwards: bool) -> None:
        source = list(rows(600, streams=50))
        await import_events(store, source[::-1] if backwards else source, name=name, chunk=60)

    await asyncio.gather(
        importer("a", backwards=False), importer("b", backwards=True), *(appender(key) for key in range(0, 50, 10))
    )

    events = await log(store)
    assert len(events) == 2 * 600 + 5 * 40
    versions: dict[str, list[int]] = {}
    for event in events:
        versions.setdefault(event.stream_id, []).append(event.stream_version)
    assert all(seen == list(range(1, len(seen) + 1)) for seen in versions.values())


async def test_an_import_whose_progress_is_gone_is_refused_and_doubles_nothing(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """Without the row that moves with each chunk a second run would begin anew: the derived ids still stop it."""
    await import_events(store, rows(250), name="old", chunk=100)
    await connection.execute("DELETE FROM eventstore.imports")

    with pytest.raises(ImportRowError, match="row 1: its event_id is in 'order-0' already"):
        await import_events(store, rows(250), name="old", chunk=100)
    assert len(await log(store)) == 250


async def test_connections_that_break_lose_nothing_and_double_nothing(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    cuts: list[asyncio.Task[Any]] = []

    async def cut() -> None:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'eventstore' AND datname = current_database()"
        )

    def now_and_then(progress: ImportProgress) -> None:
        if progress.rows in {200, 500, 900} and (not cuts or cuts[-1].done()):
            cuts.append(asyncio.create_task(cut()))

    result = await import_events(store, rows(2000), name="old", chunk=100, on_progress=now_and_then)

    await asyncio.gather(*cuts)
    assert len(cuts) == 3
    assert result.imported == 2000
    assert [event.data.quantity for event in await log(store)] == list(range(2000))


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
async def test_a_commit_without_an_answer_is_found_out(proxy: TcpProxy, store: EventStore, when: When) -> None:
    async with open_store(proxy.dsn) as cut_store:
        proxy.cut_at(b"COMMIT", when)
        result = await import_events(cut_store, rows(500), name="old", chunk=100)

    assert proxy.was_cut.is_set()
    assert result.imported == 500
    assert [event.data.quantity for event in await log(store)] == list(range(500))
