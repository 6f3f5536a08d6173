"""Appending: every expected version, what the result says, and what a conflict says."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventstore import ANY, NO_STREAM, STREAM_EXISTS, EventStore, ExpectedVersion, NewEvent, StreamId
from eventstore.errors import WrongExpectedVersionError
from eventstore.testing import FakeClock
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, placed


@pytest.mark.origin("KurrentDB", "commanded", "message-db")
@pytest.mark.parametrize("expected", [NO_STREAM, 0, ANY])
async def test_a_new_stream_begins_at_version_1(any_store: EventStore, expected: int | ExpectedVersion) -> None:
    result = await any_store.append("order-1", [placed()], expected_version=expected)

    assert (result.stream_id, result.first_version, result.stream_version) == ("order-1", 1, 1)
    assert not result.repeated


@pytest.mark.origin("KurrentDB", "commanded", "message-db")
@pytest.mark.parametrize("expected", [2, STREAM_EXISTS, ANY])
async def test_a_stream_goes_on_behind_its_last_version(any_store: EventStore, expected: int | ExpectedVersion) -> None:
    await any_store.append("order-1", [placed(), SHIPPED], expected_version=NO_STREAM)

    result = await any_store.append("order-1", [placed(7), SHIPPED], expected_version=expected)

    assert (result.first_version, result.stream_version) == (3, 4)
    assert [event.stream_version for event in await any_store.read_stream("order-1").to_list()] == [1, 2, 3, 4]


@pytest.mark.origin("KurrentDB", "commanded", "message-db")
@pytest.mark.parametrize(
    ("there", "expected"), [(0, 1), (0, STREAM_EXISTS), (2, NO_STREAM), (2, 0), (2, 1), (2, 3)], ids=str
)
async def test_a_wrong_expected_version_appends_nothing_and_says_what_is_there(
    any_store: EventStore, there: int, expected: int | ExpectedVersion
) -> None:
    if there:
        await any_store.append("order-1", [placed()] * there, expected_version=NO_STREAM)

    with pytest.raises(WrongExpectedVersionError) as raised:
        await any_store.append("order-1", [SHIPPED], expected_version=expected)

    error = raised.value
    assert (error.stream_id, error.expected, error.actual) == ("order-1", expected, there)
    assert error.retryable
    assert len(await any_store.read_stream("order-1").to_list()) == there


async def test_a_conflict_draws_no_position(any_store: EventStore) -> None:
    first = await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    for _ in range(3):
        with pytest.raises(WrongExpectedVersionError):
            await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    second = await any_store.append("order-1", [SHIPPED], expected_version=1)

    assert int(str(second.position)) == int(str(first.position)) + 1


@pytest.mark.origin("KurrentDB", "commanded")
async def test_a_thousand_events_are_appended_together_in_order(any_store: EventStore) -> None:
    events = [NoteTaken(text=f"note {number}") for number in range(1000)]

    result = await any_store.append("note-1", events, expected_version=NO_STREAM)

    recorded = await any_store.read_stream("note-1", of=NoteTaken).to_list()
    assert (result.first_version, result.stream_version, len(set(result.event_ids))) == (1, 1000, 1000)
    assert [event.data for event in recorded] == events
    assert [event.event_id for event in recorded] == list(result.event_ids)
    assert recorded[-1].position == result.position


@pytest.mark.origin("commanded", "message-db")
async def test_what_was_appended_is_read_back_whole(any_store: EventStore, clock: FakeClock) -> None:
    result = await any_store.append("order-1", [placed(3)], expected_version=NO_STREAM)

    (event,) = await any_store.read_stream("order-1").to_list()

    assert event.data == OrderPlaced(sku="tea", quantity=3)
    assert (event.stream_id, event.stream_version, event.event_type, event.schema_version) == (
        "order-1",
        1,
        "OrderPlaced",
        2,
    )
    assert (event.position, event.event_id) == (result.position, result.event_ids[0])
    assert event.occurred_at == clock.now


async def test_the_business_time_comes_back_in_utc_as_the_same_instant(any_store: EventStore) -> None:
    paris = datetime(2024, 5, 1, 12, 30, 15, 123456, tzinfo=timezone(timedelta(hours=2)))

    await any_store.append("order-1", [NewEvent(placed(), occurred_at=paris)], expected_version=NO_STREAM)

    (event,) = await any_store.read_stream("order-1").to_list()
    assert event.occurred_at == paris
    assert event.occurred_at.tzinfo == UTC


async def test_recorded_times_are_in_utc_and_never_fall_within_a_stream(
    any_store: EventStore, clock: FakeClock
) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    clock.advance(days=-400)
    await any_store.append("order-1", [placed()], expected_version=1)

    first, second = await any_store.read_stream("order-1").to_list()

    assert first.recorded_at <= second.recorded_at
    assert first.recorded_at.tzinfo == UTC


async def test_a_stream_id_in_parts_is_the_same_as_written(any_store: EventStore) -> None:
    await any_store.append(StreamId("order", "a-b"), [placed()], expected_version=NO_STREAM)

    assert len(await any_store.read_stream("order-a-b").to_list()) == 1


@pytest.mark.origin("commanded", "message-db")
async def test_of_many_writers_that_expect_one_version_exactly_one_wins(any_store: EventStore) -> None:
    async def write(number: int) -> bool:
        try:
            await any_store.append("order-1", [placed(number)], expected_version=NO_STREAM)
        except WrongExpectedVersionError as error:
            assert error.actual == 1
            return False
        return True

    won = await asyncio.gather(*(write(number) for number in range(20)))

    assert sum(won) == 1
    (event,) = await any_store.read_stream("order-1", of=OrderPlaced).to_list()
    assert event.data.quantity == won.index(True)


@pytest.mark.origin("commanded")
async def test_writers_that_expect_anything_all_win_and_leave_no_gap(any_store: EventStore) -> None:
    results = await asyncio.gather(
        *(any_store.append("order-1", [placed(number)], expected_version=ANY) for number in range(20))
    )

    recorded = await any_store.read_stream("order-1", of=OrderPlaced).to_list()
    assert sorted(result.stream_version for result in results) == list(range(1, 21))
    for number, result in enumerate(results):
        assert recorded[result.stream_version - 1].data.quantity == number
    assert [event.position for event in recorded] == sorted(event.position for event in recorded)
