"""Repairs by hand: partitions that a topic was given, and a range of the log once more, each as often as one likes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import EventStore
from eventstore.errors import ConfigurationError, InvalidArgumentError, TopicConfigurationError, UnavailableError
from eventstore.events import Position
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.packing import partition_of
from eventstore.kafka.producer import TransactionalProducer
from eventstore.kafka.repairing import accept_partitions
from eventstore.kafka.replaying import Replayed, replay
from eventstore.store.log import LogRange
from eventstore.streams import ANY
from fixtures.kafka_tools import WITHIN, Kafka, fill, is_whole, publish_all, working
from fixtures.shop import placed

# --- partitions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("groups", [1, 2])
async def test_more_partitions_are_used_once_they_are_accepted(kafka: Kafka, store: EventStore, groups: int) -> None:
    await fill(store, streams=12, events=1)
    await publish_all(kafka, store, groups=groups)
    await kafka.add_partitions(kafka.orders, 5)
    with pytest.raises(TopicConfigurationError, match="accept-partitions orders"):
        await run_to_its_end(kafka.publisher(store, groups=groups))
    declared = kafka.declaration(groups=groups)
    assert await accept_partitions(store, declared, kafka.settings) == {kafka.orders: (3, 5)}
    assert await accept_partitions(store, declared, kafka.settings) == {}
    await fill(store, streams=12, events=1)
    await publish_all(kafka, store, groups=groups)
    for record in await kafka.committed(kafka.orders):
        version = int(dict(record.headers)["stream_version"])
        assert record.partition == partition_of(record.key, 3 if version == 1 else 5)


async def test_a_publisher_at_work_uses_them_from_then_on(kafka: Kafka, store: EventStore) -> None:
    publisher = kafka.publisher(store)
    async with working(publisher):
        await fill(store, streams=5, events=1)
        await publisher.progress.caught_up(store.log)
        await kafka.add_partitions(kafka.orders, 5)
        await accept_partitions(store, kafka.declaration(), kafka.settings)
        await fill(store, streams=5, events=1)
        await publisher.progress.caught_up(store.log)
    assert is_whole(sorted(await kafka.events(kafka.orders)), streams=5, versions=2)


# --- a range once more -----------------------------------------------------------------------------------------------


async def test_a_range_is_sent_to_a_topic_once_more_and_the_cursor_stays_where_it_is(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=4, events=5)
    await publish_all(kafka, store)
    repair = f"{kafka.prefix}repair"
    assert await replayed(kafka, store, 5, 12, repair) == Replayed(8, None)
    log = await store.log.read_all(LogRange(), 4, 12, 100)
    assert sorted(await kafka.events(repair)) == log.events
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=4, versions=6)


async def test_run_again_it_does_nothing_unless_it_is_told_to(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=2, events=5)
    repair = f"{kafka.prefix}repair"
    await replayed(kafka, store, 1, 10, repair)
    assert await replayed(kafka, store, 1, 10, repair) == Replayed(0, 10)
    assert len(await kafka.events(repair)) == 10
    assert await replayed(kafka, store, 1, 4, repair) == Replayed(4, None)  # another range is another replay
    assert await replayed(kafka, store, 1, 10, repair, again=True) == Replayed(10, None)
    assert len(await kafka.events(repair)) == 24


async def test_cut_off_anywhere_it_goes_on_where_it_was(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, streams=3, events=10)
    repair = f"{kafka.prefix}repair"
    commit, left = TransactionalProducer.commit, 0

    async def fails(self: TransactionalProducer, batches: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnavailableError("cut off")
        await commit(self, batches)

    monkeypatch.setattr(TransactionalProducer, "commit", fails)
    for budget in (2, 0, 1):
        left = budget
        with pytest.raises(UnavailableError):
            await replayed(kafka, store, 1, 30, repair, batch=5)
    left = 100
    assert await replayed(kafka, store, 1, 30, repair, batch=5) == Replayed(15, 15)
    assert is_whole(await kafka.events(repair), streams=3, versions=10)


async def test_only_what_the_publisher_wants_is_sent(kafka: Kafka, store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=ANY)
    await store.append("note-1", [placed()], expected_version=ANY)
    repair = f"{kafka.prefix}repair"
    assert (await replayed(kafka, store, 1, 2, repair)).events == 1


@pytest.mark.parametrize(("first", "last"), [(0, 3), (3, 2), (1, 1000)])
async def test_a_range_that_is_none_is_refused(kafka: Kafka, store: EventStore, first: int, last: int) -> None:
    await fill(store, streams=1, events=5)
    with pytest.raises(InvalidArgumentError, match="settled"):
        await replayed(kafka, store, first, last, f"{kafka.prefix}repair")


async def test_a_topic_of_cursors_is_refused(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=1, events=1)
    for topic in (kafka.declaration().cursor_topic, f"{kafka.prefix}publisher-orders-replays"):
        with pytest.raises(ConfigurationError, match="cursors"):
            await replayed(kafka, store, 1, 1, topic)


async def replayed(
    kafka: Kafka, store: EventStore, first: int, last: int, topic: str, *, again: bool = False, **changes: Any
) -> Replayed:
    return await replay(
        store,
        kafka.declaration(**changes),
        kafka.settings,
        first=Position(first),
        last=Position(last),
        topic=topic,
        again=again,
    )


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    async with asyncio.timeout(WITHIN):
        await publisher.run()
