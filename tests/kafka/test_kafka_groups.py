"""Groups: one publisher's work shared by several processes, every event still once and in order; and regrouping."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import EventStore, Publisher
from eventstore.errors import LogMismatchError, UnavailableError, WrongGroupsError
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.producer import TransactionalProducer
from eventstore.kafka.regrouping import regroup
from eventstore.kafka.repairing import unpark
from eventstore.store.log import LogRange
from eventstore.streams import ANY, SLICES, slice_of
from eventstore.subscriptions import Checkpoints
from fixtures.kafka_tools import WITHIN, Kafka, eventually, fill, is_whole, publish_all, stop, working
from fixtures.shop import placed


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


# --- regrouping ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4), (4, 2)])
async def test_regrouping_loses_nothing_and_doubles_nothing(
    kafka: Kafka, store: EventStore, before: int, after: int
) -> None:
    await fill(store, streams=20, events=3)
    await publish_all(kafka, store, groups=before)
    await fill(store, streams=20, events=3)
    assert await regroup(store, kafka.declaration(groups=after), kafka.settings) == before
    with pytest.raises(WrongGroupsError):
        await run_to_its_end(kafka.publisher(store, groups=before))
    await publish_all(kafka, store, groups=after)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=6)
    names = {name for name, _, _ in await Checkpoints(store.database).list()}
    assert names == {group.checkpoint_name for group in kafka.declaration(groups=after).all_groups()}


async def test_groups_at_different_positions_are_brought_to_one_before_they_are_regrouped(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=20, events=3)
    publisher = kafka.publisher(store, groups=3, batch=2)
    async with working(publisher):  # stopped in the middle: each group is somewhere else
        await publisher.progress.until(lambda: publisher.progress.events > 10)
    await regroup(store, kafka.declaration(groups=2), kafka.settings)
    cursors = [
        await read_cursor(kafka.settings, "test", group.cursor_topic)
        for group in kafka.declaration(groups=2).all_groups()
    ]
    assert len({cursor.checkpoint.position for cursor in cursors}) == 1
    await publish_all(kafka, store, groups=2)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=3)


async def test_there_and_back_again(kafka: Kafka, store: EventStore) -> None:
    for round_, groups in enumerate((1, 2, 1, 3, 2, 3), start=1):
        await fill(store, streams=10, events=1)
        await regroup(store, kafka.declaration(groups=groups), kafka.settings)
        await publish_all(kafka, store, groups=groups)
        assert is_whole(await kafka.events(kafka.orders), streams=10, versions=round_)


async def test_regrouping_that_is_cut_off_at_any_transaction_can_be_repeated(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, streams=20, events=2)
    await publish_all(kafka, store, groups=2)
    publisher = kafka.publisher(store, groups=2, batch=2)
    await fill(store, streams=20, events=2)
    async with working(publisher):
        await publisher.progress.until(lambda: publisher.progress.events > 10)
    commit = TransactionalProducer.commit
    for cut in range(20):
        left = cut

        async def fails(self: TransactionalProducer, batches: Any) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise UnavailableError("cut off")
            await commit(self, batches)

        with monkeypatch.context() as patched:
            patched.setattr(TransactionalProducer, "commit", fails)
            try:
                await regroup(store, kafka.declaration(groups=3), kafka.settings)
                break
            except UnavailableError:
                pass
        if cut % 3 == 0:  # whoever is still there goes on, or says why it does not
            old = asyncio.create_task(kafka.publisher(store, groups=2, batch=2).run())
            await asyncio.wait({old}, timeout=0.5)
            await stop(old)
    else:
        pytest.fail("it never came to its end")
    assert cut > 4
    await publish_all(kafka, store, groups=3)
    assert is_whole(await kafka.events(kafka.orders), streams=20, versions=4)


async def test_parked_streams_move_to_the_group_that_owns_them(kafka: Kafka, store: EventStore) -> None:
    await kafka.create_topic(kafka.orders, retention_ms="-1", max_message_bytes="2000")
    for number in range(6):
        await store.append(f"order-{number}", [placed(sku="t" * 5000)], expected_version=ANY)
    await publish_all(kafka, store, groups=2, on_failure="park")
    await regroup(store, kafka.declaration(groups=3, on_failure="park"), kafka.settings)
    await publish_all(kafka, store, groups=3, on_failure="park")
    await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes="20000")
    for number in range(6):
        declared = kafka.declaration(groups=3, on_failure="park")
        assert (await unpark(store, declared, kafka.settings, f"order-{number}")).sent == 1
    assert is_whole(await kafka.events(kafka.orders), streams=6, versions=1)


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    async with asyncio.timeout(WITHIN):
        await publisher.run()
