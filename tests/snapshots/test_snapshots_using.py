"""A snapshot is a cache: whatever is in it, or missing, loading leads to the state of a full replay."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore, NewEvent
from eventstore.aggregates import Folded, load_folded
from eventstore.clock import uuid7
from eventstore.snapshots import take_snapshot, verify_snapshot
from eventstore.store import StoredSnapshot
from eventstore.store.reading import PAGE
from eventstore.testing import memory_store
from examples.loans import app as loans
from examples.loans.application import LoanApplication
from examples.loans.rows import Row, read_rows
from examples.loans.state import State as LoanState
from fixtures.shop import SHIPPED, Order, State, placed
from fixtures.stores import open_store

LONGEST = "185548"
"""The application with the most events."""

SHAPE = Order.shape
LOAN = LoanApplication.shape


@pytest.fixture(scope="module")
def histories() -> Mapping[str, Sequence[NewEvent]]:
    """The events of 20 real applications, the longest among them, by stream."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for row in read_rows():
        rows[row.application].append(row)
    some = random.Random(20).sample(sorted(rows), 19)
    found = {}
    for key in {*some, LONGEST}:
        application = LoanApplication(key, LoanState())
        for row in rows[key]:
            row.run(application)
        found[application.stream_id] = application.pending
    assert len(found[LOAN.stream_id(LONGEST)]) == 175
    return found


@pytest.fixture(params=["memory", "postgres"])
async def bank(request: pytest.FixtureRequest) -> AsyncIterator[EventStore]:
    """An empty store of the loans, one of each kind in turn."""
    if request.param == "memory":
        yield memory_store(loans)
        return
    async with open_store(request.getfixturevalue("dsn"), loans) as store:
        yield store


async def replayed(store: EventStore, stream_id: str, version: int | None = None) -> LoanState:
    folded: Folded[LoanState] = await load_folded(store, LOAN, stream_id, version=version, use_snapshot=False)
    return folded.state


async def test_at_every_prefix_of_real_streams_the_snapshot_and_the_replay_agree(
    bank: EventStore, histories: Mapping[str, Sequence[NewEvent]]
) -> None:
    """A snapshot is taken at each version in turn; the state there, and one event on, is that of a full replay."""
    for stream_id, events in histories.items():
        expected = LOAN.initial()
        for version, event in enumerate(events, start=1):
            await bank.append(stream_id, [event], expected_version=version - 1)
            expected = LOAN.evolve(expected, event.data)
            by_snapshot = await load_folded(bank, LOAN, stream_id)
            assert (by_snapshot.state, by_snapshot.version) == (expected, version)
            assert (by_snapshot.snapshot_version, by_snapshot.replayed) == (version - 1, 1)
            await take_snapshot(bank, LOAN, stream_id)
            at_once = await load_folded(bank, LOAN, stream_id)
            assert (at_once.state, at_once.snapshot_version, at_once.replayed) == (expected, version, 0)
            assert at_once.position == by_snapshot.position
        assert await replayed(bank, stream_id) == expected


@pytest.mark.parametrize("seed", range(3))
async def test_with_snapshots_at_random_versions_every_version_is_what_a_replay_makes_of_it(
    bank: EventStore, histories: Mapping[str, Sequence[NewEvent]], seed: int
) -> None:
    chance = random.Random(seed)
    for stream_id, events in islice(sorted(histories.items()), 8):
        done = 0
        while done < len(events):
            some = events[done : done + chance.randint(1, 40)]
            await bank.append(stream_id, some, expected_version=done)
            done += len(some)
            if chance.random() < 0.7:
                await take_snapshot(bank, LOAN, stream_id)
        state = LOAN.initial()
        for version, event in enumerate(events, start=1):
            state = LOAN.evolve(state, event.data)
            loaded = await load_folded(bank, LOAN, stream_id, version=version)
            assert (loaded.state, loaded.version) == (state, version)
        assert (await verify_snapshot(bank, LOAN, stream_id)).agrees


async def test_a_long_stream_goes_on_from_its_snapshot_over_several_pages(store: EventStore) -> None:
    await store.append("order-1", [placed()] * 3, expected_version=0)
    await take_snapshot(store, SHAPE, "order-1")
    for count in (PAGE - 1, 1, PAGE):  # a full page with the snapshot's own event, one more, and a second page
        info = await store.stream_info("order-1")
        assert info is not None
        await store.append("order-1", [placed()] * count, expected_version=info.version)
        loaded = await load_folded(store, SHAPE, "order-1")
        assert loaded.version == loaded.state.quantity == info.version + count
        assert (loaded.snapshot_version, loaded.replayed) == (3, loaded.version - 3)


# --- snapshots that must not be used ---------------------------------------------------------------------------------


async def save(store: EventStore, version: int, state: str, event_id: Any = None, fingerprint: str = "") -> None:
    """Put a snapshot into the store, as true or false as wanted."""
    if event_id is None:
        (event,) = await store.read_stream("order-1", from_version=version, to_version=version).to_list()
        event_id = event.event_id
    snapshot = StoredSnapshot(version, event_id, state)
    await store.log.save_snapshot("order-1", fingerprint or SHAPE.fingerprint(store.event_types), snapshot)


LIE = State(status="placed", quantity=666).model_dump_json()
TRUTH = State(status="shipped", quantity=3)


@pytest.fixture
async def ordered(any_store: EventStore) -> EventStore:
    """A store with an order of three events."""
    await any_store.append("order-1", [placed(1), placed(2), SHIPPED], expected_version=0)
    return any_store


def is_replay(folded: Folded[State]) -> bool:
    return (folded.state, folded.version, folded.snapshot_version, folded.replayed) == (TRUTH, 3, 0, 3)


async def test_a_fitting_snapshot_is_believed(ordered: EventStore) -> None:
    """Or else the tests below would prove nothing."""
    await save(ordered, 2, LIE)

    loaded = await load_folded(ordered, SHAPE, "order-1")
    assert (loaded.state.quantity, loaded.snapshot_version, loaded.replayed) == (666, 2, 1)
    assert (await ordered.repository(Order).load("1")).state.quantity == 666


async def test_a_snapshot_of_an_event_that_this_log_does_not_have_is_ignored(ordered: EventStore) -> None:
    await save(ordered, 2, LIE, event_id=uuid7())
    assert is_replay(await load_folded(ordered, SHAPE, "order-1"))


async def test_a_snapshot_of_a_version_that_the_stream_does_not_have_is_ignored(ordered: EventStore) -> None:
    await save(ordered, 9, LIE, event_id=uuid7())
    assert is_replay(await load_folded(ordered, SHAPE, "order-1"))


@pytest.mark.parametrize("state", ["", "{", "[]", '{"status": "lost"}', '{"quantity": "many"}'])
async def test_a_snapshot_that_cannot_be_read_is_ignored(ordered: EventStore, state: str) -> None:
    await save(ordered, 2, state)
    assert is_replay(await load_folded(ordered, SHAPE, "order-1"))


async def test_a_snapshot_of_another_shape_is_ignored_and_kept(ordered: EventStore) -> None:
    await save(ordered, 2, LIE, fingerprint="another")
    assert is_replay(await load_folded(ordered, SHAPE, "order-1"))

    await take_snapshot(ordered, SHAPE, "order-1")
    assert (await ordered.log.snapshot_versions(["order-1"], "another"))["order-1"][0] == 2


async def test_a_snapshot_beyond_the_version_asked_for_is_ignored(ordered: EventStore) -> None:
    await save(ordered, 2, LIE)
    loaded = await load_folded(ordered, SHAPE, "order-1", version=1)
    assert (loaded.state.quantity, loaded.version, loaded.snapshot_version) == (1, 1, 0)


@pytest.mark.parametrize("moment", ["occurred_until", "recorded_until"])
async def test_travelling_in_time_uses_no_snapshot(ordered: EventStore, moment: str) -> None:
    await save(ordered, 2, LIE)
    last = (await ordered.read_stream("order-1").to_list())[-1]
    until: dict[str, Any] = {moment: getattr(last, moment.replace("until", "at"))}
    assert (await ordered.repository(Order).load("1", **until)).state == TRUTH


async def test_a_later_snapshot_is_not_replaced_by_an_earlier_one(ordered: EventStore) -> None:
    await take_snapshot(ordered, SHAPE, "order-1")
    await save(ordered, 2, LIE)

    loaded = await load_folded(ordered, SHAPE, "order-1")
    assert (loaded.state, loaded.snapshot_version) == (TRUTH, 3)


async def test_an_earlier_snapshot_is_replaced_by_a_later_one(ordered: EventStore) -> None:
    for version in (1, 3):
        await save(ordered, version, LIE)
        assert (await load_folded(ordered, SHAPE, "order-1")).snapshot_version == version


async def test_forgotten_snapshots_cost_a_replay_and_nothing_else(ordered: EventStore) -> None:
    await take_snapshot(ordered, SHAPE, "order-1")
    await ordered.log.delete_snapshots("order-1")
    assert is_replay(await load_folded(ordered, SHAPE, "order-1"))


async def test_a_stream_without_events_gets_no_snapshot(any_store: EventStore) -> None:
    folded = await take_snapshot(any_store, SHAPE, "order-1")
    assert folded.version == 0
    assert await any_store.log.snapshot_versions(["order-1"], SHAPE.fingerprint(any_store.event_types)) == {}


# --- proving one -----------------------------------------------------------------------------------------------------


async def test_verifying_tells_a_true_snapshot_from_one_that_was_tampered_with(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed(1), placed(2)], expected_version=0)
    without = await verify_snapshot(store, SHAPE, "order-1")
    await take_snapshot(store, SHAPE, "order-1")
    await store.append("order-1", [SHIPPED], expected_version=2)
    true = await verify_snapshot(store, SHAPE, "order-1")
    await connection.execute("UPDATE eventstore.snapshots SET state = $1", LIE)
    lie = await verify_snapshot(store, SHAPE, "order-1")

    assert (without.agrees, without.version, without.snapshot_version) == (True, 2, 0)
    assert (true.agrees, true.version, true.snapshot_version) == (True, 3, 2)
    assert (lie.agrees, lie.version, lie.snapshot_version) == (False, 3, 2)
