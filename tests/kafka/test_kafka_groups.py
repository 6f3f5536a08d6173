"""Groups: one publisher's work shared by several processes, every event still once and in order; and regrouping."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import EventStore, Publisher
from eventstore.codec import StoredEvent
from eventstore.errors import LogMismatchError, WrongGroupsError
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.packing import Packer, Way
from eventstore.store.log import LogRange
from eventstore.streams import SLICES, slice_of
from fixtures.kafka_tools import WITHIN, Kafka, eventually, fill, is_whole, publish_all, stop, working


def test_every_stream_belongs_to_one_group() -> None:
    for of in (1, 2, 3, 5, 64):
        groups = Publisher("orders", groups=of).all_groups()
        owned = [group.slices or (0, SLICES - 1) for group in groups]
        assert [number for first, last in owned for number in range(first, last + 1)] == list(range(SLICES))
        for number in range(50):
            assert sum(group.owns(f"order-{number}") for group in groups) == 1


def test_all_that_makes_it_exactly_once_is_the_groups_own() -> None:
    groups = [*Publisher("orders", groups=2).all_groups(), *Publisher("orders").all_groups()]
    for names in (
        [group.fencing_id for group in groups],
        [group.cursor_topic for group in groups],
        [group.checkpoint_name for group in groups],
    ):
        assert len(set(names)) == 3


async def test_the_log_is_read_by_slices_as_they_are_computed_here(store: EventStore) -> None:
    await fill(store, streams=30, events=1)
    for group in Publisher("orders", groups=3).all_groups():
        page = await store.log.read_all(LogRange(slices=group.slices), 0, await store.log.high_water(), 1000)
        first, last = group.slices or (0, 0)
        own = [f"order-{number}" for number in range(30) if first <= slice_of(f"order-{number}") <= last]
        assert [event.stream_id for event in page.events] == own


async def test_one_instance_works_for_all_groups(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=20, events=5)
    await publish_all(kafka, store, groups=4, batch=10)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=5)


async def test_a_restart_goes_on_where_every_group_stopped(kafka: Kafka, store: EventStore) -> None:
    for round_ in range(1, 4):
        await fill(store, streams=10, events=2)
        await publish_all(kafka, store, groups=3)
        assert is_whole(await kafka.events(kafka.orders), streams=10, versions=2 * round_)


async def test_the_groups_of_a_process_share_one_memory_of_ways(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.packing._REMEMBERED", 8)
    remembered: set[int] = set()
    way_of = Packer._way_of

    async def note_way(self: Packer, event: StoredEvent) -> Way:
        found = await way_of(self, event)
        remembered.add(id(self._ways))
        assert len(self._ways) <= 8
        return found

    monkeypatch.setattr(Packer, "_way_of", note_way)
    await fill(store, streams=20, events=3)
    await publish_all(kafka, store, groups=4, batch=10)
    assert len(remembered) == 1
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=3)


async def test_instances_share_the_groups_evenly_and_hand_them_over_when_another_appears(
    kafka: Kafka, store: EventStore
) -> None:
    publishers = [kafka.publisher(store, groups=4, batch=5) for _ in range(2)]
    first, second = publishers
    await fill(store, streams=20, events=4)
    first_task = asyncio.create_task(first.run())
    try:
        await first.progress.caught_up(store.log, within=WITHIN)
        async with working(second):
            await fill(store, streams=20, events=4)
            await second.progress.until(lambda: second.progress.state == "working")
            for _ in range(3):
                await fill(store, streams=20, events=1)
                await second.progress.caught_up(store.log, within=WITHIN)
                await first.progress.caught_up(store.log, within=WITHIN)
            done = second.progress.events
            assert done > 0
            await stop(first_task)
            await fill(store, streams=20, events=1)
            await second.progress.caught_up(store.log, within=WITHIN)
            assert second.progress.events > done
    finally:
        await stop(first_task)
    assert first.progress.events + second.progress.events == 20 * 12
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=12)


@pytest.mark.parametrize("instances", [2, 3])
async def test_shares_differ_by_one_at_most(kafka: Kafka, store: EventStore, instances: int) -> None:
    publishers = [kafka.publisher(store, groups=4) for _ in range(instances)]
    async with working(*publishers):

        async def are_shared() -> bool:
            return sorted(publisher.groups_held for publisher in publishers) == {2: [2, 2], 3: [1, 1, 2]}[instances]

        await eventually(are_shared)


async def test_another_number_of_groups_than_it_was_created_with_is_refused(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store, groups=2)
    for groups in (1, 3):
        with pytest.raises(WrongGroupsError, match="regroup orders"):
            await run_to_its_end(kafka.publisher(store, groups=groups))
    assert is_whole(await kafka.events(kafka.orders), streams=4, versions=1)


async def test_a_publisher_of_one_group_is_not_split_by_a_declaration_alone(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store)
    with pytest.raises(WrongGroupsError, match="has 1 group"):
        await run_to_its_end(kafka.publisher(store, groups=2))


async def test_kafka_that_has_lost_the_layout_is_not_taken_for_a_new_one(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store, groups=2)
    await kafka.delete_topic(kafka.declaration().cursor_topic)
    for groups in (1, 2, 4):
        with pytest.raises(LogMismatchError):
            await run_to_its_end(kafka.publisher(store, groups=groups))


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    async with asyncio.timeout(WITHIN):
        await publisher.run()
