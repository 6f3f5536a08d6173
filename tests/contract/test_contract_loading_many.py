"""Many aggregates loaded together, in both styles, by every store."""

from __future__ import annotations

import pytest

from eventstore import NO_STREAM, EventStore, NewEvent
from eventstore.aggregates import folding
from eventstore.clock import uuid7
from eventstore.errors import InvalidStreamIdError
from eventstore.store.log import LAST_VERSION, StoredSnapshot
from fixtures.shop import SHIPPED, NoteTaken, Order, State, order, placed


@pytest.fixture
async def orders(any_store: EventStore) -> EventStore:
    """A store with twenty orders: order-n was placed n times, and every other one was shipped."""
    for number in range(1, 21):
        events = [placed(2)] * number + [SHIPPED] * (number % 2)
        await any_store.append(f"order-{number}", events, expected_version=NO_STREAM)
    await any_store.append("other-1", [NoteTaken(text="x")], expected_version=NO_STREAM)
    return any_store


async def test_they_are_what_loading_each_gives(orders: EventStore) -> None:
    repository, functional = orders.repository(Order), orders.repository(order)
    keys = [str(number) for number in range(20, 0, -1)]

    together = await repository.load_many(keys)
    folded = await functional.load_many(keys)

    assert list(together) == list(folded) == keys
    for key in keys:
        one = await repository.load(key)
        many = together[key]
        assert (many.key, many.state, many.version, many.position) == (key, one.state, one.version, one.position)
        assert (folded[key].state, folded[key].version) == (one.state, one.version)
    assert together["7"].state == State(status="shipped", quantity=14)


async def test_missing_ones_are_left_out_and_doubles_loaded_once(orders: EventStore) -> None:
    together = await orders.repository(Order).load_many(["404", "2", "1", "2", "x-404"])

    assert list(together) == ["2", "1"]
    assert await orders.repository(Order).load_many([]) == {}
    assert await orders.repository(order).load_many(["404"]) == {}


async def test_a_snapshot_without_events_makes_no_aggregate(orders: EventStore) -> None:
    """It can be left over where a log was taken back to an earlier time."""
    for shape in (Order.shape, order.shape):
        left = StoredSnapshot(3, uuid7(), State(quantity=3).model_dump_json())
        await orders.log.save_snapshot("order-404", shape.fingerprint(orders.event_types), left)

    assert list(await orders.repository(Order).load_many(["404", "2"])) == ["2"]
    assert list(await orders.repository(order).load_many(["404", "2"])) == ["2"]


async def test_a_key_that_is_none_is_refused(orders: EventStore) -> None:
    with pytest.raises(InvalidStreamIdError):
        await orders.repository(Order).load_many(["1", "a/b"])


async def test_a_loaded_one_can_be_changed_and_saved(orders: EventStore) -> None:
    repository = orders.repository(Order)
    together = await repository.load_many(["2", "4"])
    for loaded in together.values():
        loaded.ship("dhl")
        await repository.save(loaded)

    assert (await repository.load("4")).state.status == "shipped"


@pytest.mark.parametrize("of_each", [1, 2, 20, 21])
async def test_big_ones_are_continued_to_their_last_event(
    orders: EventStore, monkeypatch: pytest.MonkeyPatch, of_each: int
) -> None:
    monkeypatch.setattr(folding, "OF_EACH", of_each)
    monkeypatch.setattr(folding, "PAGE", 4)
    monkeypatch.setattr(folding, "TOGETHER", 3)

    together = await orders.repository(Order).load_many([str(number) for number in range(1, 21)])

    assert [loaded.version for loaded in together.values()] == [number + number % 2 for number in range(1, 21)]
    assert [loaded.state.quantity for loaded in together.values()] == [2 * number for number in range(1, 21)]


async def test_they_begin_at_their_snapshots_and_a_wrong_one_changes_nothing(orders: EventStore) -> None:
    shape = Order.shape
    fingerprint = shape.fingerprint(orders.event_types)
    for number in (10, 11, 12):
        events = (await orders.log.load_folded(f"order-{number}", "", LAST_VERSION, 100)).events
        state = State(status="placed", quantity=100)  # not what a replay gives, so that its use shows
        event_id = events[5].event_id if number < 12 else events[0].event_id
        text = shape.dump_state(state) if number != 11 else "{"
        await orders.log.save_snapshot(f"order-{number}", fingerprint, StoredSnapshot(6, event_id, text))

    together = await orders.repository(order).load_many(["9", "10", "11", "12"])

    assert [folded.state.quantity for folded in together.values()] == [18, 108, 22, 24]
    assert [folded.snapshot_version for folded in together.values()] == [0, 6, 0, 0]
    assert [folded.replayed for folded in together.values()] == [10, 4, 12, 12]


async def test_inside_a_transaction_its_own_events_count(orders: EventStore) -> None:
    async with orders.transaction() as tx:
        await tx.append("order-1", [NewEvent(placed(5))], expected_version=2)
        inside = await orders.repository(Order).load_many(["1", "2"], tx=tx)
        outside = await orders.repository(Order).load_many(["1", "2"])

    assert [loaded.version for loaded in inside.values()] == [3, 2]
    assert [loaded.version for loaded in outside.values()] == [2, 2]


async def test_every_one_is_noticed(orders: EventStore) -> None:
    heard: list[tuple[str, int]] = []
    orders.on_load.append(lambda stream_id, replayed, *_: heard.append((stream_id, replayed)))

    await orders.repository(Order).load_many(["3", "404", "2"])

    assert heard == [("order-3", 4), ("order-2", 2)]
