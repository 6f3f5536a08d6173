"""The log as a whole: its order, reading on after a position, categories, and the streams in it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from eventstore import ANY, BEGINNING, NO_STREAM, EventStore, Position, RawEvent
from eventstore.errors import InvalidArgumentError
from eventstore.store.reading import PAGE
from eventstore.testing import FakeClock
from fixtures.gaps import open_append
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, OrderShipped, placed


@pytest.fixture
async def mixed(any_store: EventStore) -> EventStore:
    """A store with two orders and a note, appended by turns."""
    await any_store.append("order-1", [placed(1)], expected_version=NO_STREAM)
    await any_store.append("note-1", [NoteTaken(text="a")], expected_version=NO_STREAM)
    await any_store.append("order-2", [placed(2), SHIPPED], expected_version=NO_STREAM)
    await any_store.append("order-1", [SHIPPED], expected_version=1)
    return any_store


@pytest.mark.origin("KurrentDB", "commanded")
async def test_the_log_is_read_in_the_order_of_positions(mixed: EventStore) -> None:
    events = await mixed.read_all().to_list()

    assert [(event.stream_id, event.stream_version) for event in events] == [
        ("order-1", 1),
        ("note-1", 1),
        ("order-2", 1),
        ("order-2", 2),
        ("order-1", 2),
    ]
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert positions[0] > BEGINNING


@pytest.mark.origin("message-db")
async def test_reading_after_a_position_leaves_that_one_out(mixed: EventStore) -> None:
    events = await mixed.read_all().to_list()

    for index, event in enumerate(events):
        assert await mixed.read_all(after=event.position).to_list() == events[index + 1 :]


async def test_positions_survive_being_written_as_text(mixed: EventStore) -> None:
    events = await mixed.read_all().to_list()

    for event in events:
        assert Position.parse(str(event.position)) == event.position
        assert hash(Position.parse(str(event.position))) == hash(event.position)


@pytest.mark.parametrize(
    "text", ["", "-1", "1.0", " 1", "one", "\uff11", str(2**63), "9" * 5000], ids=lambda it: it[:9]
)
def test_what_is_no_position_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        Position.parse(text)


@pytest.mark.origin("message-db")
async def test_the_log_of_some_categories(mixed: EventStore) -> None:
    notes = await mixed.read_all(categories=["note"]).to_list()
    both = await mixed.read_all(categories=["order", "note"]).to_list()

    assert [event.stream_id for event in notes] == ["note-1"]
    assert len(both) == 5
    assert await mixed.read_all(categories=["ord"]).to_list() == []
    assert await mixed.read_all(categories=[]).to_list() == []


async def test_the_log_of_some_models(mixed: EventStore) -> None:
    shipped = await mixed.read_all(of=OrderShipped).to_list()
    both = await mixed.read_all(of=OrderPlaced | OrderShipped, categories=["order"], limit=3).to_list()
    raw = await mixed.read_all(of=RawEvent).to_list()

    assert [event.stream_id for event in shipped] == ["order-2", "order-1"]
    assert [event.data for event in both] == [placed(1), placed(2), SHIPPED]
    assert len(raw) == 5


async def test_the_log_from_a_recorded_time_on(any_store: EventStore, clock: FakeClock) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    clock.advance(hours=1)
    await any_store.append("order-2", [placed()], expected_version=NO_STREAM)
    first, second = await any_store.read_all().to_list()

    assert await any_store.read_all(recorded_from=first.recorded_at).to_list() == [first, second]
    assert await any_store.read_all(recorded_from=second.recorded_at).to_list() == [second]
    assert await any_store.read_all(recorded_from=second.recorded_at + timedelta(hours=1)).to_list() == []


async def test_wanted_events_far_apart_are_all_found(any_store: EventStore) -> None:
    filler = [NoteTaken(text="x")] * (PAGE - 1)
    for number in range(3):
        await any_store.append(f"order-{number}", [placed(number)], expected_version=NO_STREAM)
        await any_store.append("note-1", filler, expected_version=ANY)

    wanted = await any_store.read_all(of=OrderPlaced).to_list()

    assert [event.data.quantity for event in wanted] == [0, 1, 2]


async def test_an_empty_log_reads_as_empty(any_store: EventStore) -> None:
    assert await any_store.read_all().to_list() == []
    assert await any_store.read_all(after=Position(99)).to_list() == []


@pytest.mark.origin("Marten")
async def test_nothing_appears_behind_a_reader_of_the_log(any_store: EventStore) -> None:
    """Positions are drawn before the commit: what is read must end below a transaction that is still open."""
    async with open_append(any_store, 1, "order-slow"):
        await any_store.append("order-fast", [placed()], expected_version=NO_STREAM)
        while_open = await any_store.read_all().to_list()

    assert while_open == []
    assert [event.stream_id for event in await any_store.read_all().to_list()] == ["order-slow", "order-fast"]


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.origin("commanded", "message-db")
async def test_a_stream_at_a_glance(mixed: EventStore) -> None:
    info = await mixed.stream_info("order-1")
    events = await mixed.read_stream("order-1").to_list()

    assert info is not None
    assert (info.stream_id, info.category, info.version) == ("order-1", "order", 2)
    assert info.updated_at == events[-1].recorded_at
    assert info.created_at == events[0].recorded_at
    assert await mixed.stream_info("order-404") is None


@pytest.mark.origin("commanded")
async def test_streams_are_listed_in_the_order_of_their_ids(any_store: EventStore) -> None:
    for stream_id in ["order-b", "Order-a", "order-a", "order-B", "order-é", "note-z"]:
        await any_store.append(stream_id, [placed()], expected_version=NO_STREAM)

    every = [info.stream_id async for info in any_store.list_streams()]
    orders = [info.stream_id async for info in any_store.list_streams(category="order")]
    after = [info.stream_id async for info in any_store.list_streams(category="order", after="order-a")]

    assert every == ["Order-a", "note-z", "order-B", "order-a", "order-b", "order-é"]
    assert orders == ["order-B", "order-a", "order-b", "order-é"]
    assert after == ["order-b", "order-é"]


@pytest.mark.origin("commanded")
async def test_more_streams_than_a_page_are_all_listed(any_store: EventStore) -> None:
    async with any_store.transaction() as tx:
        for number in range(1001):
            await tx.append(f"note-{number:04}", [NoteTaken(text="x")], expected_version=NO_STREAM)

    assert [info.stream_id async for info in any_store.list_streams()] == [f"note-{n:04}" for n in range(1001)]
