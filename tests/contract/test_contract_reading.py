"""Reading a stream: directions, bounds, times, selections, and iterators that leave nothing behind."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore import NO_STREAM, EventStore, NewEvent, RawEvent
from eventstore.clock import uuid7
from eventstore.errors import UnknownEventTypeError
from eventstore.metadata import NO_METADATA
from eventstore.store import AppendRequest
from eventstore.store.reading import PAGE, EventIterator
from eventstore.testing import FakeClock
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, OrderShipped, placed

BEGIN = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
async def ten(any_store: EventStore) -> EventStore:
    """A store with ten notes in `note-1`, a day of business time between them."""
    notes = [NewEvent(NoteTaken(text=str(n)), occurred_at=BEGIN + timedelta(days=n)) for n in range(1, 11)]
    await any_store.append("note-1", notes, expected_version=NO_STREAM)
    return any_store


@pytest.mark.origin("KurrentDB", "commanded")
@pytest.mark.parametrize(
    ("first", "last", "limit", "forwards", "backwards"),
    [
        (1, None, None, range(1, 11), range(10, 0, -1)),
        (4, None, None, range(4, 11), range(10, 3, -1)),
        (1, 4, None, range(1, 5), range(4, 0, -1)),
        (4, 7, None, range(4, 8), range(7, 3, -1)),
        (4, 7, 2, range(4, 6), range(7, 5, -1)),
        (7, 4, None, (), ()),
        (1, 0, None, (), ()),
        (11, None, None, (), ()),
        (1, None, 0, (), ()),
        (1, None, 10, range(1, 11), range(10, 0, -1)),
        (1, None, 99, range(1, 11), range(10, 0, -1)),
    ],
)
async def test_a_range_is_inclusive_in_both_directions(
    ten: EventStore, first: int, last: int | None, limit: int | None, forwards: range, backwards: range
) -> None:
    ahead = ten.read_stream("note-1", from_version=first, to_version=last, limit=limit)
    back = ten.read_stream("note-1", from_version=first, to_version=last, limit=limit, backwards=True)

    assert [event.stream_version async for event in ahead] == list(forwards)
    assert [event.stream_version async for event in back] == list(backwards)


async def test_a_stream_that_does_not_exist_is_empty(any_store: EventStore) -> None:
    assert await any_store.read_stream("order-404").to_list() == []
    assert await any_store.read_stream("order-404", backwards=True).to_list() == []


@pytest.mark.origin("commanded")
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE])
async def test_pages_join_without_a_gap_or_a_double(any_store: EventStore, count: int, *, backwards: bool) -> None:
    for begin in range(0, count, PAGE):
        notes = [NoteTaken(text=str(number)) for number in range(begin, min(begin + PAGE, count))]
        await any_store.append("note-1", notes, expected_version=begin)

    versions = [event.stream_version async for event in any_store.read_stream("note-1", backwards=backwards)]

    assert versions == (list(range(count, 0, -1)) if backwards else list(range(1, count + 1)))


async def test_a_business_time_bounds_what_had_happened_by_then(ten: EventStore) -> None:
    until = BEGIN + timedelta(days=3)

    at = await ten.read_stream("note-1", occurred_until=until).to_list()
    before = await ten.read_stream("note-1", occurred_until=until - timedelta(microseconds=1)).to_list()

    assert [event.stream_version for event in at] == [1, 2, 3]
    assert [event.stream_version for event in before] == [1, 2]


async def test_a_recorded_time_bounds_what_was_known_then(any_store: EventStore, clock: FakeClock) -> None:
    late = NewEvent(placed(), occurred_at=BEGIN - timedelta(days=9000))
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    clock.advance(days=1)
    await any_store.append("order-1", [late], expected_version=1)
    first, second = await any_store.read_stream("order-1").to_list()

    known = await any_store.read_stream("order-1", recorded_until=first.recorded_at).to_list()

    assert first.recorded_at < second.recorded_at
    assert [event.stream_version for event in known] == [1]


async def test_only_the_models_asked_for_are_read(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(), SHIPPED, NoteTaken(text="x")], expected_version=NO_STREAM)

    one = await any_store.read_stream("order-1", of=OrderShipped).to_list()
    both = await any_store.read_stream("order-1", of=OrderPlaced | OrderShipped).to_list()

    assert [event.data for event in one] == [SHIPPED]
    assert [event.data for event in both] == [placed(), SHIPPED]
    assert [event.stream_version for event in one] == [2]


async def test_a_limit_counts_the_models_asked_for(any_store: EventStore) -> None:
    await any_store.append("order-1", [SHIPPED, SHIPPED, placed(1), placed(2)], expected_version=NO_STREAM)

    first = await any_store.read_stream("order-1", of=OrderPlaced, limit=1).to_list()
    last = await any_store.read_stream("order-1", of=OrderPlaced, limit=1, backwards=True).to_list()

    assert [event.data.quantity for event in [*first, *last]] == [1, 2]


async def test_raw_events_are_what_is_stored(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(3), SHIPPED], expected_version=NO_STREAM)

    raw = await any_store.read_stream("order-1", of=RawEvent).to_list()

    assert [event.data for event in raw] == [RawEvent({"sku": "tea", "quantity": 3}), RawEvent({"carrier": "dhl"})]
    assert [(event.event_type, event.schema_version) for event in raw] == [("OrderPlaced", 2), ("OrderShipped", 1)]


async def test_raw_in_a_union_is_what_is_not_among_the_models(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(3), SHIPPED], expected_version=NO_STREAM)

    mixed = await any_store.read_stream("order-1", of=OrderPlaced | RawEvent).to_list()

    assert [event.data for event in mixed] == [placed(3), RawEvent({"carrier": "dhl"})]


async def test_leaving_an_iterator_half_read_leaves_nothing_behind(ten: EventStore) -> None:
    for _ in range(50):  # more than any pool has connections
        async for event in ten.read_stream("note-1"):
            assert event.stream_version == 1
            break
        async for event in ten.read_all():
            assert event.stream_version == 1
            break

    await ten.append("note-1", [NoteTaken(text="still there")], expected_version=10)


async def test_a_half_read_iterator_goes_on_where_it_was(ten: EventStore) -> None:
    events = ten.read_stream("note-1")
    async for _ in events:
        break

    assert len(await events.to_list()) == 9


async def test_an_exhausted_iterator_stays_exhausted(ten: EventStore) -> None:
    events = ten.read_stream("note-1")
    await events.to_list()
    await ten.append("note-1", [NoteTaken(text="late")], expected_version=10)

    assert await events.to_list() == []


async def test_streams_can_be_appended_to_while_they_are_read(ten: EventStore) -> None:
    async for event in ten.read_stream("note-1"):
        await ten.append(f"note-copy-{event.stream_version}", [event.data], expected_version=NO_STREAM)

    assert len([info async for info in ten.list_streams()]) == 11


async def test_reading_an_unknown_type_names_it_and_where_it_is(any_store: EventStore) -> None:
    encoded = any_store.codec.encode(placed(), NO_METADATA)
    unknown = encoded._replace(event_type="Forgotten", event_id=uuid7())
    request = AppendRequest("order-1", NO_STREAM, 0, [encoded, unknown], look_up_ids=False)
    await any_store.log.append([request], wait=True)

    with pytest.raises(UnknownEventTypeError) as raised:
        await any_store.read_stream("order-1").to_list()
    raw = await any_store.read_stream("order-1", of=RawEvent).to_list()
    known = await any_store.read_stream("order-1", of=OrderPlaced).to_list()

    error = raised.value
    assert (error.event_type, error.stream_id, error.stream_version) == ("Forgotten", "order-1", 2)
    assert [event.event_type for event in raw] == ["OrderPlaced", "Forgotten"]
    assert [event.stream_version for event in known] == [1]


@pytest.fixture
async def broken(any_store: EventStore) -> EventStore:
    """A store with forty sound events in `order-1`, and one behind them whose type nobody knows."""
    await any_store.append("order-1", [placed(number) for number in range(1, 41)], expected_version=NO_STREAM)
    unknown = any_store.codec.encode(placed(), NO_METADATA)._replace(event_type="Unknown")
    await any_store.log.append([AppendRequest("order-1", 40, 40, [unknown], look_up_ids=False)], wait=True)
    return any_store


@pytest.mark.parametrize("whole_log", [False, True], ids=["a stream", "the log"])
async def test_an_event_that_cannot_be_read_hides_none_before_it(broken: EventStore, *, whole_log: bool) -> None:
    def events(limit: int | None = None) -> EventIterator[Any]:
        return broken.read_all(limit=limit) if whole_log else broken.read_stream("order-1", limit=limit)

    reader, seen = events(), list[int]()
    for _ in range(2):  # it is the next one, and stays it
        with pytest.raises(UnknownEventTypeError) as raised:
            async for event in reader:
                seen.append(event.stream_version)
        assert raised.value.__context__ is None

    assert seen == list(range(1, 41))
    assert len(await events(limit=35).to_list()) == 35


async def test_a_list_that_failed_is_whole_when_it_is_asked_for_again(
    broken: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = broken.read_stream("order-1")
    with pytest.raises(UnknownEventTypeError):
        await events.to_list()

    with monkeypatch.context() as mended:
        mended.setattr(broken.codec, "decode", lambda *_: [])  # the code that knows the type is there

        assert [event.stream_version for event in await events.to_list()] == list(range(1, 41))
    assert await events.to_list() == []


async def test_a_list_that_failed_can_be_read_one_by_one(broken: EventStore) -> None:
    events = broken.read_stream("order-1")
    with pytest.raises(UnknownEventTypeError):
        await events.to_list()

    assert [(await anext(events)).stream_version for _ in range(40)] == list(range(1, 41))
