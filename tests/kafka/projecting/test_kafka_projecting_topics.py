"""A topic that loses records or is made again stops a read model until it is rebuilt; how far it is behind is told."""

from __future__ import annotations

import pytest

from eventstore import EventStore
from eventstore.errors import LogMismatchError, StreamGapError, UnavailableError
from eventstore.kafka.feeding import Feed
from eventstore.kafka.lags import kafka_lags
from eventstore.lifecycle import Backoff
from eventstore.projections import rebuild
from fixtures.kafka_sales import counted, each, execute, project_all, projector, run_to_its_end, sales
from fixtures.kafka_tools import Kafka, eventually, fill, publish_all, working


async def test_at_rest_no_lag_is_left_and_otherwise_it_is_told(kafka: Kafka, store: EventStore) -> None:
    """The ends of transactions take offsets too, and no record leads past them."""
    await fill(store, streams=9, events=2)
    await publish_all(kafka, store)
    worker = projector(kafka, store)

    async def lag() -> int | None:
        ((consumer, topic, offsets),) = await kafka_lags(kafka.settings, store.database)
        assert (consumer, topic) == ("sales@1", kafka.orders)
        return offsets

    async def is_none() -> bool:
        return await lag() == 0

    async with working(worker):
        await worker.caught_up()
        await eventually(is_none)
    await fill(store, streams=9, events=2)
    await publish_all(kafka, store)
    assert (await lag() or 0) >= 18
    await project_all(kafka, store)
    assert await counted(store) == each(9, 4)


@pytest.mark.parametrize("published_again", [False, True], ids=["empty", "filled"])
async def test_a_topic_that_was_deleted_and_made_again_stops_it_until_a_rebuild(
    kafka: Kafka, store: EventStore, published_again: bool
) -> None:
    """Also where it is as long as before, so that the offsets alone say nothing."""
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    records = await kafka.committed(kafka.orders)
    await kafka.delete_topic(kafka.orders)
    await kafka.create_topic(kafka.orders)
    await kafka.produce(kafka.orders, *records if published_again else ())

    for _ in range(2):
        with pytest.raises(LogMismatchError, match=r"deleted and made again .* `eventstore rebuild sales`"):
            await run_to_its_end(projector(kafka, store))
    assert await counted(store) == each(3, 2)

    await rebuild(store, sales)
    await project_all(kafka, store)
    assert await counted(store) == each(3, 2)


async def test_a_topic_that_was_made_again_while_it_runs_stops_it(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.feeding._LOOK_AGAIN", 0.2)
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    worker = projector(kafka, store)
    async with working(worker) as (task,):
        await worker.caught_up()
        await kafka.delete_topic(kafka.orders)
        await kafka.create_topic(kafka.orders)
        with pytest.raises(LogMismatchError, match=r"deleted and made again|no longer holds"):
            await task


async def test_a_topic_that_has_lost_what_comes_next_stops_it_until_a_rebuild(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await kafka.delete_records(kafka.orders)

    with pytest.raises(LogMismatchError, match="records were deleted"):
        await run_to_its_end(projector(kafka, store))

    await rebuild(store, sales)
    await fill(store, streams=3, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    assert await counted(store) == each(3, 5)


async def test_an_offset_beyond_the_topics_end_stops_it(kafka: Kafka, store: EventStore) -> None:
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    await execute(store, "UPDATE eventstore.kafka_offsets SET next_offset = next_offset + 1000")

    with pytest.raises(LogMismatchError, match=r"it has come to offset 10\d\d of partition"):
        await run_to_its_end(projector(kafka, store))


async def test_a_read_model_that_was_never_fed_is_built_though_the_topic_has_lost_its_beginning(
    kafka: Kafka, store: EventStore
) -> None:
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    await kafka.delete_records(kafka.orders)
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)

    with pytest.raises(StreamGapError):
        await run_to_its_end(projector(kafka, store))

    await rebuild(store, sales)
    await fill(store, streams=3, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    assert await counted(store) == each(3, 5)


async def test_what_fails_each_time_is_tried_more_and_more_slowly_also_when_nothing_comes_in_between(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle poll is no success."""
    delays: list[float] = []
    idle: list[int] = []
    wait, at_rest = Backoff.wait, Feed._settled_at_rest

    async def note_delay(backoff: Backoff) -> None:
        delays.append(backoff._next)
        await wait(backoff)

    async def fail_at_rest(feed: Feed) -> int:
        idle.append(await at_rest(feed))
        if len(idle) % 3 == 0 and len(delays) < 3:
            raise UnavailableError("not now")
        return idle[-1]

    await fill(store, streams=1, events=1)
    await publish_all(kafka, store)
    await project_all(kafka, store)
    monkeypatch.setattr(Backoff, "wait", note_delay)
    monkeypatch.setattr(Feed, "_settled_at_rest", fail_at_rest)
    worker = projector(kafka, store)
    async with working(worker):
        await worker.progress.until(lambda: len(delays) == 3 and worker.progress.state == "working")

    assert delays == [0.1, 0.2, 0.4]
