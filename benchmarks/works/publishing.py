"""The publisher catching up on a backlog, beside a loop written by hand and Debezium's outbox router."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from itertools import count
from typing import TYPE_CHECKING, Final

from benchmarks import loops, ours, raw, workers
from benchmarks.broker import create_topic, topics, watching
from benchmarks.debezium.outbox import CHUNK
from benchmarks.filling import copy_streams
from benchmarks.results import OURS, Row
from eventstore.lifecycle import running

if TYPE_CHECKING:
    import asyncpg

    from benchmarks.context import Context
    from benchmarks.debezium.outbox import Outbox
    from benchmarks.rounds import Subject
    from eventstore import EventStore

LOOP: Final = "asyncpg and aiokafka, a loop by hand"
WARM_UPS: Final = 2
"""Backlogs that Debezium works off before the warm-up round: its Java goes on getting faster for so long."""


async def measure(context: Context) -> Row:
    """Measure how fast a backlog is published; each round into topics that are new, but for Debezium's."""
    events = context.sizes.published
    row = Row("publish", f"publish a backlog of {events:,} events to Kafka", "events/s", lower_is_better=False)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        context.tell(f"{row.name}, writing {events:,} events")
        await copy_streams(dsn, events)
        prefix = await stack.enter_async_context(topics(context.kafka))
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(dsn, 1))
        subjects = {
            OURS: _publishing(context, store, prefix, events),
            LOOP: _looping(context, pool, prefix, events),
        }
        outbox = await stack.enter_async_context(context.outbox(row, dsn, f"{prefix}outbox"))
        if outbox is not None:
            subjects[context.debezium.label] = routing = _routing(outbox, events)
            await outbox.stop()
            for number in range(WARM_UPS):
                context.tell(f"{row.name}, warming Debezium up, {number + 1} of {WARM_UPS}")
                await routing()
        await context.run(row, subjects)
    row.compare(f"over {LOOP}", "a loop by hand", OURS, LOOP, at_least=0.8)
    row.compare(f"over {context.debezium.label}", "Debezium", OURS, context.debezium.label, at_least=2)
    row.notes.append(
        f"{OURS} publishes exactly once: its cursor is in the same Kafka transaction as the events. The loop is "
        "idempotent within one connection and keeps no cursor: a crash leaves holes or doubles. Both are timed from "
        "where they are connected to the last acknowledgement, and write the same headers to 8 partitions."
    )
    row.notes.append(
        "Debezium's outbox router runs on Kafka Connect standalone, which delivers at least once, with the settings of "
        "its users (pgoutput, a filtered publication, wal_level=logical, the Java options of Kafka's own script); its "
        "constant headers are left out. It reads an outbox table's inserts from the write-ahead log: the same rows "
        f"were inserted into one, {CHUNK:,} in a transaction, while the connector was stopped, and it is timed from "
        f"the first record in its topic to the last. Its Java has worked off {WARM_UPS + 1} such backlogs before."
    )
    return row


def _publishing(context: Context, store: EventStore, prefix: str, events: int) -> Subject:
    numbers = count()

    async def subject() -> float:
        topic = f"events{next(numbers)}"
        await create_topic(context.kafka, f"{prefix}{topic}")
        publisher = workers.publisher(store, context.kafka, prefix, topic)
        progress, last = publisher.progress, await store.log.high_water()
        async with running(publisher.run()):
            await progress.until(lambda: progress.state == "working")
            began = time.perf_counter()
            await progress.until(lambda: progress.position >= last)
            took = time.perf_counter() - began
        assert progress.events == events, progress.events  # noqa: S101 - a publisher that skips is none
        return events / took

    return subject


def _looping(context: Context, pool: asyncpg.Pool, prefix: str, events: int) -> Subject:
    numbers = count()

    async def subject() -> float:
        topic = f"{prefix}loop{next(numbers)}"
        await create_topic(context.kafka, topic)
        async with loops.producing(context.kafka) as producer, watching(context.kafka, topic) as watcher:
            await producer.partitions_for(topic)
            began = time.perf_counter()
            await loops.publish(pool, producer, topic, events)
            took = time.perf_counter() - began
            assert await watcher.count() == events  # noqa: S101 - the same
        return events / took

    return subject


def _routing(outbox: Outbox, events: int) -> Subject:
    async def subject() -> float:
        await outbox.refill(events)
        return await outbox.route(events)

    return subject
