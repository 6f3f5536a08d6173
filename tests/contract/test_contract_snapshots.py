"""Snapshots in the log: kept by shape, the later one wins, and they come and go with their transaction."""

from __future__ import annotations

import pytest

from eventstore import NO_STREAM, EventStore
from eventstore.clock import uuid7
from eventstore.store import StoredSnapshot
from eventstore.store.log import LAST_VERSION
from fixtures.shop import SHIPPED, placed

FIRST, LATER = StoredSnapshot(2, uuid7(), '{"n": 2}'), StoredSnapshot(4, uuid7(), '{"n": 4}')


@pytest.fixture
async def five(any_store: EventStore) -> EventStore:
    """A store with five events in `order-1`."""
    await any_store.append("order-1", [placed(), SHIPPED, placed(), SHIPPED, placed()], expected_version=NO_STREAM)
    return any_store


async def folded(
    store: EventStore, fingerprint: str = "a", *, to_version: int = LAST_VERSION, limit: int = 100
) -> tuple[StoredSnapshot | None, list[int]]:
    """Return the snapshot that loading begins with, and the versions of the events that come after it."""
    snapshot, events = await store.log.load_folded("order-1", fingerprint, to_version, limit)
    return snapshot, [event.stream_version for event in events]


@pytest.mark.origin("Akka Persistence")
async def test_without_a_snapshot_every_event_comes(five: EventStore) -> None:
    assert await folded(five) == (None, [1, 2, 3, 4, 5])
    assert await folded(five, to_version=3) == (None, [1, 2, 3])
    assert await folded(five, limit=2) == (None, [1, 2])


@pytest.mark.origin("Akka Persistence")
async def test_with_a_snapshot_the_events_from_its_own_version_on_come(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", FIRST)

    assert await folded(five) == (FIRST, [2, 3, 4, 5])
    assert await folded(five, to_version=3) == (FIRST, [2, 3])
    assert await folded(five, limit=2) == (FIRST, [2, 3])


@pytest.mark.origin("Akka Persistence")
async def test_a_snapshot_above_the_version_asked_for_is_left_out(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", LATER)

    assert await folded(five, to_version=3) == (None, [1, 2, 3])


async def test_each_shape_has_its_own(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", FIRST)
    await five.log.save_snapshot("order-1", "b", LATER)

    assert (await folded(five, "a"))[0] == FIRST
    assert (await folded(five, "b"))[0] == LATER
    assert (await folded(five, "c"))[0] is None


@pytest.mark.origin("Akka Persistence")
@pytest.mark.parametrize("order", [[FIRST, LATER], [LATER, FIRST]])
async def test_the_later_one_is_kept(five: EventStore, order: list[StoredSnapshot]) -> None:
    for snapshot in order:
        await five.log.save_snapshot("order-1", "a", snapshot)

    assert (await folded(five))[0] == LATER


async def test_how_far_snapshots_have_come_can_be_asked_for_many_streams(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", FIRST)
    await five.log.save_snapshot("order-2", "b", LATER)

    versions = await five.log.snapshot_versions(["order-1", "order-2", "order-3"], "a")

    assert {stream_id: version for stream_id, (version, _) in versions.items()} == {"order-1": 2}
    assert versions["order-1"][1].tzinfo is not None


@pytest.mark.origin("Akka Persistence")
async def test_forgotten_ones_are_gone_in_all_shapes(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", FIRST)
    await five.log.save_snapshot("order-1", "b", FIRST)
    await five.log.save_snapshot("order-2", "a", FIRST)
    await five.log.delete_snapshots("order-1")

    assert await folded(five, "a") == (None, [1, 2, 3, 4, 5])
    assert await folded(five, "b") == (None, [1, 2, 3, 4, 5])
    assert list(await five.log.snapshot_versions(["order-1", "order-2"], "a")) == ["order-2"]


async def test_they_come_and_go_with_their_transaction(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", FIRST)
    with pytest.raises(ZeroDivisionError):
        async with five.transaction() as tx:
            await tx.log.delete_snapshots("order-1")
            await tx.log.save_snapshot("order-1", "b", LATER)
            assert (await tx.log.load_folded("order-1", "a", LAST_VERSION, 1))[0] is None
            assert (await tx.log.load_folded("order-1", "b", LAST_VERSION, 1))[0] == LATER
            assert (await folded(five, "a"))[0] == FIRST
            raise ZeroDivisionError

    assert (await folded(five, "a"))[0] == FIRST
    assert (await folded(five, "b"))[0] is None
    async with five.transaction() as tx:
        await tx.log.save_snapshot("order-1", "a", LATER)
    assert (await folded(five, "a"))[0] == LATER


@pytest.mark.origin("Akka Persistence")
async def test_of_several_snapshots_the_most_recent_one_is_loaded(five: EventStore) -> None:
    for version in range(1, 6):
        await five.log.save_snapshot("order-1", "a", StoredSnapshot(version, uuid7(), f'{{"n": {version}}}'))

    snapshot, versions = await folded(five)

    assert snapshot is not None
    assert (snapshot.stream_version, snapshot.state, versions) == (5, '{"n": 5}', [5])


@pytest.mark.origin("Akka Persistence")
@pytest.mark.parametrize("bound", [1, 2, 3, 4, 5])
async def test_a_bound_is_never_answered_with_a_snapshot_above_it(five: EventStore, bound: int) -> None:
    """Only the latest is kept, so a bound below it costs a replay; it never costs the right state."""
    await five.log.save_snapshot("order-1", "a", FIRST)
    await five.log.save_snapshot("order-1", "a", LATER)

    snapshot, versions = await folded(five, to_version=bound)

    begin = snapshot.stream_version if snapshot else 1
    assert snapshot in ([LATER] if bound >= LATER.stream_version else [None])
    assert versions == list(range(begin, bound + 1))


@pytest.mark.origin("Akka Persistence")
async def test_a_snapshot_of_another_stream_is_never_used(five: EventStore) -> None:
    for stream_id in ("order-11", "order-", "orders-1", "ORDER-1"):
        await five.log.save_snapshot(stream_id, "a", LATER)

    assert await folded(five) == (None, [1, 2, 3, 4, 5])
    snapshot, events = await five.log.load_folded("order-404", "a", LAST_VERSION, 100)
    assert (snapshot, list(events)) == (None, [])


@pytest.mark.origin("Akka Persistence")
async def test_one_of_a_version_that_is_there_changes_nothing(five: EventStore) -> None:
    """The same shape folded the same events: a second one can only be the same, so the first is not written again."""
    await five.log.save_snapshot("order-1", "a", FIRST)
    await five.log.save_snapshot("order-1", "a", FIRST._replace(state='{"n": "another"}'))

    assert (await folded(five))[0] == FIRST


@pytest.mark.origin("Akka Persistence")
async def test_snapshots_are_kept_when_events_follow_and_are_no_events(five: EventStore) -> None:
    await five.log.save_snapshot("order-1", "a", LATER)
    await five.append("order-1", [SHIPPED], expected_version=5)

    assert await folded(five) == (LATER, [4, 5, 6])
    assert len(await five.read_all().to_list()) == 6
