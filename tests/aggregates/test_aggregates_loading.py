"""Loading: as it is now, as it was at a version or at a time. What was loaded as it was cannot be saved."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import AggregateNotFoundError, EventStore, NewEvent
from eventstore.errors import InvalidArgumentError, InvalidStreamIdError, WrongExpectedVersionError
from eventstore.store.reading import PAGE
from eventstore.testing import FakeClock
from fixtures.shop import SHIPPED, NoteTaken, Order, OrderPlaced, State, order, placed

MONDAY = FakeClock()()
TUESDAY = FakeClock().advance(days=1)
WEDNESDAY = FakeClock().advance(days=2)


@pytest.fixture
async def history(any_store: EventStore, clock: FakeClock) -> EventStore:
    """A store with an order of three events: what happened on Monday was recorded last, on Wednesday."""
    for version, (recorded, occurred, event) in enumerate(
        [(MONDAY, TUESDAY, placed(1)), (TUESDAY, WEDNESDAY, placed(10)), (WEDNESDAY, MONDAY, placed(100))]
    ):
        clock.set(recorded)
        await any_store.append("order-1", [NewEvent(event, occurred_at=occurred)], expected_version=version)
    return any_store


@pytest.mark.parametrize("kind", [Order, order], ids=["class", "decider"])
async def test_a_missing_aggregate_cannot_be_loaded(any_store: EventStore, kind: Any) -> None:
    with pytest.raises(AggregateNotFoundError) as raised:
        await any_store.repository(kind).load("1")
    assert raised.value.stream_id == "order-1"


async def test_load_or_new_gives_a_new_one_at_version_0_and_writes_nothing(any_store: EventStore) -> None:
    orders = any_store.repository(Order)

    new = await orders.load_or_new("1")

    assert (new.key, new.state, new.version, new.pending) == ("1", State(), 0, ())
    assert not await orders.exists("1")


async def test_load_or_new_gives_the_one_that_is_there(history: EventStore) -> None:
    orders = history.repository(Order)

    assert (await orders.load_or_new("1")).state.quantity == 111
    assert await orders.exists("1")


async def test_a_key_that_makes_no_stream_id_is_refused(any_store: EventStore) -> None:
    with pytest.raises(InvalidStreamIdError):
        await any_store.repository(Order).load_or_new("")


@pytest.mark.parametrize("kind", [Order, order], ids=["class", "decider"])
@pytest.mark.parametrize(("version", "quantity"), [(1, 1), (2, 11), (3, 111)])
async def test_an_aggregate_is_loaded_as_it_was_at_a_version(
    history: EventStore, kind: Any, version: int, quantity: int
) -> None:
    loaded = await history.repository(kind).load("1", version=version)

    assert (loaded.version, loaded.state.quantity) == (version, quantity)


@pytest.mark.parametrize("kind", [Order, order], ids=["class", "decider"])
async def test_business_time_folds_what_had_happened_by_then(history: EventStore, kind: Any) -> None:
    orders = history.repository(kind)

    assert (await orders.load("1", occurred_until=MONDAY)).state.quantity == 100
    assert (await orders.load("1", occurred_until=TUESDAY)).state.quantity == 101
    assert (await orders.load("1", occurred_until=WEDNESDAY)).state.quantity == 111


async def test_nothing_had_happened_before_the_first_event(history: EventStore) -> None:
    with pytest.raises(AggregateNotFoundError):
        await history.repository(Order).load("1", occurred_until=FakeClock().advance(days=-1))


async def test_recorded_time_folds_what_was_known_then(history: EventStore) -> None:
    orders = history.repository(Order)
    events = await history.read_stream("order-1", of=OrderPlaced).to_list()

    for moment in (event.recorded_at for event in events):
        known = sum(event.data.quantity for event in events if event.recorded_at <= moment)
        assert (await orders.load("1", recorded_until=moment)).state.quantity == known
    with pytest.raises(AggregateNotFoundError):
        await orders.load("1", recorded_until=FakeClock().advance(days=-1))


@pytest.mark.parametrize(
    ("bound", "of_event"),
    [("version", "stream_version"), ("occurred_until", "occurred_at"), ("recorded_until", "recorded_at")],
)
@pytest.mark.parametrize("kind", [Order, order], ids=["class", "decider"])
async def test_an_event_that_is_not_the_aggregates_counts_for_the_version_of_its_past_too(
    any_store: EventStore, kind: Any, bound: str, of_event: str
) -> None:
    await any_store.append("order-1", [placed(), NoteTaken(text="x")], expected_version=0)
    await any_store.append("order-2", [NoteTaken(text="x")], expected_version=0)
    orders = any_store.repository(kind)

    for key in ("1", "2"):
        now = await orders.load(key)
        (last,) = await any_store.read_stream(f"order-{key}", backwards=True, limit=1).to_list()
        then = await orders.load(key, **{bound: getattr(last, of_event)})
        assert (then.state, then.version, then.position) == (now.state, now.version, now.position)
        assert then.version == last.stream_version


async def test_a_version_and_a_time_together_are_refused(history: EventStore) -> None:
    with pytest.raises(InvalidArgumentError, match="not at both"):
        await history.repository(Order).load("1", version=1, occurred_until=MONDAY)


@pytest.mark.parametrize(
    "bound", [{"version": 3}, {"version": 1}, {"occurred_until": WEDNESDAY}, {"recorded_until": FakeClock(MONDAY)()}]
)
async def test_what_was_loaded_as_it_was_cannot_be_saved(
    any_store: EventStore, bound: dict[str, Any], clock: FakeClock
) -> None:
    clock.set(MONDAY)
    await any_store.append("order-1", [placed(), placed(), placed()], expected_version=0)
    if "recorded_until" in bound:  # PostgreSQL stamps with its own time
        bound = {"recorded_until": (await any_store.read_stream("order-1").to_list())[-1].recorded_at}
    orders = any_store.repository(Order)
    loaded = await orders.load("1", **bound)
    loaded.place("tea")

    with pytest.raises(InvalidArgumentError, match="loaded as it was in the past"):
        await orders.save(loaded)
    assert (await orders.load("1")).version == 3


async def test_saving_a_stale_aggregate_is_a_conflict_and_keeps_what_it_emitted(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    stale = await orders.load_or_new("1")
    stale.place("tea")
    await any_store.append("order-1", [placed(7)], expected_version=0)

    with pytest.raises(WrongExpectedVersionError):
        await orders.save(stale)

    assert len(stale.pending) == 1
    assert (await orders.load("1")).state.quantity == 7


async def test_a_saved_aggregate_goes_on_from_where_it_was_saved(any_store: EventStore) -> None:
    orders = any_store.repository(Order)
    aggregate = await orders.load_or_new("1")
    aggregate.place("tea", 2)
    first = await orders.save(aggregate)
    assert (aggregate.version, aggregate.position, aggregate.pending) == (1, first.position, ())

    aggregate.ship("dhl")
    second = await orders.save(aggregate)

    assert (second.first_version, second.stream_version) == (2, 2)
    assert (await orders.load("1")).state == aggregate.state


@pytest.mark.parametrize("count", [PAGE - 1, PAGE, PAGE + 1, 2 * PAGE, 2 * PAGE + 1])
@pytest.mark.parametrize("last", [SHIPPED, NoteTaken(text="not the order's")], ids=["its own", "a stranger's"])
async def test_streams_longer_than_a_page_are_folded_to_their_last_event(
    store: EventStore, count: int, last: Any
) -> None:
    await store.append("order-1", [*[placed()] * (count - 1), last], expected_version=0)
    orders = store.repository(Order)

    loaded = await orders.load("1")
    earlier = await orders.load("1", version=count - 1)
    result = await orders.execute("1", lambda order: order.place("tea"))

    assert (loaded.version, loaded.state.quantity) == (count, count - 1)
    assert loaded.state.status == ("shipped" if last is SHIPPED else "placed")
    assert (earlier.version, earlier.state) == (count - 1, State(status="placed", quantity=count - 1))
    assert result.stream_version == count + 1
