"""Regrouping: another number of groups, every event still once and in order; what is in its way changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventstore import EventStore
from eventstore.errors import (
    LogMismatchError,
    MessageTooLargeError,
    TooManyUnpublishedStreamsError,
    TopicConfigurationError,
    UnavailableError,
    WrongGroupsError,
)
from eventstore.kafka import KafkaPublisher, regrouping
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.group_worker import GroupWorker
from eventstore.kafka.producer import TransactionalProducer
from eventstore.kafka.regrouping import regroup
from eventstore.kafka.repairing import unpark
from eventstore.outbox import Group
from eventstore.streams import ANY
from eventstore.subscriptions import Checkpoints, Leases, Progress
from fixtures.kafka_tools import WITHIN, Kafka, fill, is_whole, lose_last_event, publish_all, stop, working
from fixtures.shop import placed

LARGE = placed(sku="t" * 5000)


@pytest.fixture
async def narrow(kafka: Kafka) -> Kafka:
    """A broker whose topic of orders accepts little."""
    await kafka.create_topic(kafka.orders, retention_ms="-1", max_message_bytes="2000")
    return kafka


async def widen(kafka: Kafka) -> None:
    await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes="20000")


def stream_of(group: Group) -> str:
    return next(stream_id for number in range(1000) if group.owns(stream_id := f"order-{number}"))


async def publish_one_group(kafka: Kafka, store: EventStore, group: Group) -> None:
    """Publish everything that one group owns, and leave the others where they are."""
    worker = GroupWorker(store, group, kafka.settings, Progress("one group"))
    task = asyncio.create_task(worker.work(Leases(store.database).holding(group.checkpoint_name)))
    try:
        await worker.progress.caught_up(store.log, within=WITHIN)
    finally:
        await stop(task)


@asynccontextmanager
async def cut_off_after(transactions: int, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Let so many transactions happen in the block, and expect the next one to fail it."""
    commit, left = TransactionalProducer.commit, transactions

    async def fails(self: TransactionalProducer, batches: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise UnavailableError("cut off")
        await commit(self, batches)

    with monkeypatch.context() as patched, pytest.raises(UnavailableError, match="cut off"):
        patched.setattr(TransactionalProducer, "commit", fails)
        yield


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


# --- what is in its way ---------------------------------------------------------------------------------------------


async def test_more_parked_streams_than_a_new_group_may_have_change_nothing(narrow: Kafka, store: EventStore) -> None:
    owners = [stream_of(group) for group in narrow.declaration(groups=2).all_groups()]
    for stream_id in owners:
        await store.append(stream_id, [placed()], expected_version=ANY)
        await store.append(stream_id, [LARGE], expected_version=ANY)
    parking: dict[str, Any] = {"on_failure": "park", "max_parked": 1}
    await publish_all(narrow, store, groups=2, **parking)
    with pytest.raises(TooManyUnpublishedStreamsError):
        await regroup(store, narrow.declaration(groups=1, **parking), narrow.settings)
    await store.append("order-1000", [placed()], expected_version=ANY)
    await publish_all(narrow, store, groups=2, **parking)  # as before
    await widen(narrow)
    await unpark(store, narrow.declaration(groups=2, **parking), narrow.settings, owners[0])
    await regroup(store, narrow.declaration(groups=1, **parking), narrow.settings)
    await unpark(store, narrow.declaration(groups=1, **parking), narrow.settings, owners[1])
    assert len(await narrow.events(narrow.orders)) == 5


async def test_an_event_that_an_old_group_cannot_send_changes_nothing(narrow: Kafka, store: EventStore) -> None:
    first, second = narrow.declaration(groups=2).all_groups()
    await store.append(stream_of(first), [placed()], expected_version=ANY)
    await store.append(stream_of(second), [placed()], expected_version=ANY)
    await publish_all(narrow, store, groups=2)
    await store.append(stream_of(second), [LARGE], expected_version=ANY)
    await store.append(stream_of(first), [placed()], expected_version=ANY)
    await publish_one_group(narrow, store, first)
    with pytest.raises(MessageTooLargeError):
        await regroup(store, narrow.declaration(groups=3), narrow.settings)
    await widen(narrow)
    await publish_all(narrow, store, groups=2)  # as before
    assert is_whole(await narrow.events(narrow.orders), streams=2, versions=2)
    assert await regroup(store, narrow.declaration(groups=3), narrow.settings) == 2


async def test_a_topic_that_cannot_take_a_new_groups_cursor_changes_nothing(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store)
    _, second = kafka.declaration(groups=2).all_groups()
    await kafka.create_topic(second.cursor_topic, 1, cleanup_policy="delete")
    with pytest.raises(TopicConfigurationError):
        await regroup(store, kafka.declaration(groups=2), kafka.settings)
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=4, versions=2)


async def test_one_that_was_killed_before_all_old_groups_were_closed_can_be_given_up(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store, groups=2)
    async with cut_off_after(1, monkeypatch):
        await regroup(store, kafka.declaration(groups=3), kafka.settings)
    with pytest.raises(WrongGroupsError):
        await run_to_its_end(kafka.publisher(store, groups=2))
    await regroup(store, kafka.declaration(groups=1), kafka.settings)
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=4, versions=2)


async def test_one_that_was_killed_after_all_old_groups_were_closed_must_come_to_its_end(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await fill(store, streams=4, events=1)
    await publish_all(kafka, store, groups=2)
    async with cut_off_after(2, monkeypatch):
        await regroup(store, kafka.declaration(groups=3), kafka.settings)
    with pytest.raises(WrongGroupsError, match="groups=3"):
        await regroup(store, kafka.declaration(groups=1), kafka.settings)
    await regroup(store, kafka.declaration(groups=3), kafka.settings)
    await publish_all(kafka, store, groups=3)
    assert is_whole(await kafka.events(kafka.orders), streams=4, versions=1)


async def test_a_log_that_loses_its_tail_meanwhile_is_noticed(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a failover between the taking over and the reading."""
    first, second = kafka.declaration(groups=2).all_groups()
    await store.append(stream_of(second), [placed()], expected_version=ANY)
    await publish_all(kafka, store, groups=2)
    await store.append(stream_of(second), [placed()], expected_version=ANY)
    await store.append(stream_of(first), [placed()], expected_version=ANY)
    await publish_one_group(kafka, store, first)
    go_on = regrouping._Change._reopen

    async def lose_the_tail(self: Any, tenures: Any) -> None:
        await lose_last_event(store)
        await go_on(self, tenures)

    monkeypatch.setattr(regrouping._Change, "_reopen", lose_the_tail)
    with pytest.raises(LogMismatchError, match="the log ends"):
        await regroup(store, kafka.declaration(groups=3), kafka.settings)
    for group in (first, second):
        assert (await read_cursor(kafka.settings, "test", group.cursor_topic)).closed_for is None


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    async with asyncio.timeout(WITHIN):
        await publisher.run()
