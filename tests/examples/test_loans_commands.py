"""Running the rows as commands: each once, in the order of its application, however often a run is cut short."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from eventstore import NO_STREAM, EventStore, NewEvent
from eventstore.testing import memory_store
from examples.loans import app
from examples.loans import events as e
from examples.loans.application import LoanApplication, RefusedError
from examples.loans.commands import Commands
from examples.loans.rows import Row, read_rows


@pytest.fixture(scope="module")
def rows() -> Sequence[Row]:
    return list(read_rows(500))


@pytest.fixture
def store() -> EventStore:
    return memory_store(app)


async def require_each_row_once(store: EventStore, rows: Sequence[Row]) -> None:
    events = {(event.stream_id, event.stream_version): event async for event in store.read_all()}
    assert set(events) == {(f"application-{row.application}", row.step) for row in rows}
    for row in rows:
        event = events[f"application-{row.application}", row.step]
        assert (event.occurred_at, event.metadata.actor) == (row.at, row.resource)


async def test_each_row_becomes_one_event_at_its_step_with_its_time_and_employee(
    store: EventStore, rows: Sequence[Row]
) -> None:
    commands = Commands(store, rows)
    await commands.find()
    await commands.run()
    assert (commands.found, commands.done) == (0, 500)
    await require_each_row_once(store, rows)


async def test_a_second_run_finds_everything_and_does_nothing(store: EventStore, rows: Sequence[Row]) -> None:
    for found, done in ((0, 500), (500, 0)):
        commands = Commands(store, rows)
        await commands.find()
        await commands.run()
        assert (commands.found, commands.done) == (found, done)
    await require_each_row_once(store, rows)


async def test_a_run_that_was_cut_short_goes_on_from_there(store: EventStore, rows: Sequence[Row]) -> None:
    broken = [*rows[:300], rows[300]._replace(activity="A_POWER_CUT"), *rows[301:]]
    first = Commands(store, broken)
    await first.find()
    with pytest.raises(KeyError, match="A_POWER_CUT"):
        await first.run()
    assert 0 < first.done < 500

    second = Commands(store, rows)
    await second.find()
    assert first.done <= second.found < 500
    await second.run()
    assert second.found + second.done == 500
    await require_each_row_once(store, rows)


async def test_an_event_of_somebody_else_is_refused_by_the_rules_not_overwritten(
    store: EventStore, rows: Sequence[Row]
) -> None:
    application = rows[0].application
    commands = Commands(store, rows)
    await commands.find()
    cancelled = [
        NewEvent(event)
        for event in (
            e.ApplicationSubmitted(amount_requested=1),
            e.ApplicationPartlySubmitted(),
            e.ApplicationCancelled(),
        )
    ]
    await store.append(f"application-{application}", cancelled, expected_version=NO_STREAM)
    with pytest.raises(RefusedError):
        await commands.run()
    assert (await store.repository(LoanApplication).load(application)).version == 3
