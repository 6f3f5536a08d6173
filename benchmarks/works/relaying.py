"""How long an event is on its way at a steady load: to a consumer of Kafka, and into a read model."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import ours, raw
from benchmarks.broker import create_topic, topics
from benchmarks.debezium import outbox as debezium_outbox
from benchmarks.pacing import RATE, STREAMS, age, paced, stamped
from benchmarks.relays import relaying
from benchmarks.results import OURS, Row
from benchmarks.workers import TOPIC
from eventstore import ANY

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from benchmarks.context import Context
    from benchmarks.debezium.outbox import Outbox
    from benchmarks.rounds import Subject
    from eventstore import EventStore

P50: Final = 50
P99: Final = 99

ACKNOWLEDGED: Final = f"{OURS}, of it until append returns"

DEBEZIUM_SETTINGS: Final = {"poll.interval.ms": "5", "producer.override.linger.ms": "0"}
"""For latency. By default it gathers records for up to 500 ms."""

WARM_UPS: Final = 3
"""Rounds that Debezium works before those that count, for its Java."""

_WARM_UP: Final = 0.2
"""So much of a round, as a part of what counts, comes before it: the processes of a round are new."""


async def to_consumer(context: Context) -> Row:
    """Measure the way to a consumer of committed records, through the publisher and through Debezium."""
    row = Row(
        "publish-latency",
        f"from append to a read_committed consumer, at {RATE:,} events/s",
        "ms",
        lower_is_better=True,
    )
    percentiles = Percentiles(row)
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        prefix = await stack.enter_async_context(topics(context.kafka))
        store = await stack.enter_async_context(ours.opened(dsn))
        await create_topic(context.kafka, f"{prefix}{TOPIC}")
        way = _Way(context, store, dsn, prefix)

        async def to_consumer() -> list[float]:
            ages = await way.to_consumer()
            percentiles.note(ACKNOWLEDGED, way.acknowledged)
            return ages

        subjects = {OURS: percentiles.of(OURS, to_consumer)}
        outbox = await stack.enter_async_context(context.outbox(row, dsn, f"{prefix}outbox", DEBEZIUM_SETTINGS))
        debezium = context.debezium.label
        if outbox is not None:
            await outbox.stop()
            pool = await stack.enter_async_context(raw.pool(dsn, 10))
            through_debezium = _through_debezium(context, pool, outbox)
            for number in range(WARM_UPS):
                context.tell(f"{row.name}, warming Debezium up, {number + 1} of {WARM_UPS}")
                await through_debezium()
            subjects[debezium] = percentiles.of(debezium, through_debezium)
        await context.run(row, subjects, warm_up=False)
    percentiles.close()
    _judge_p50(row, OURS, 10)
    for percentile in (P50, P99):
        row.compare(
            f"p{percentile}: of {debezium}",
            f"p{percentile} of Debezium's",
            f"{OURS}, p{percentile}",
            f"{debezium}, p{percentile}",
            at_most=1,
        )
    row.notes.append(
        f"One process appends {RATE:,} single events a second to {STREAMS} streams, each when its time has come, "
        "whether the one before is done or not; publisher and consumer have processes of their own. An event is timed "
        "from the call of append until the consumer has it, by the one clock of the machine. For Debezium, the same "
        "events are inserted into its outbox table by asyncpg, each in a transaction of its own, over 10 connections; "
        f"it has worked {WARM_UPS} rounds before, and its settings are "
        f"{', '.join(f'{name}={value}' for name, value in DEBEZIUM_SETTINGS.items())}."
    )
    return row


async def to_read_model(context: Context) -> Row:
    """Measure the way into a read model, through Kafka and straight from the log."""
    row = Row(
        "project-latency",
        f"from append to its read model committed, at {RATE:,} events/s",
        "ms",
        lower_is_better=True,
    )
    percentiles = Percentiles(row)
    by_kafka, by_log = f"{OURS}, through Kafka", f"{OURS}, straight from the log"
    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        prefix = await stack.enter_async_context(topics(context.kafka))
        store = await stack.enter_async_context(ours.opened(dsn))
        await create_topic(context.kafka, f"{prefix}{TOPIC}")
        way = _Way(context, store, dsn, prefix)
        subjects = {
            by_kafka: percentiles.of(by_kafka, way.through_kafka),
            by_log: percentiles.of(by_log, way.from_log),
        }
        await context.run(row, subjects, warm_up=False)
    percentiles.close()
    _judge_p50(row, by_kafka, 20)
    _judge_p50(row, by_log, 10)
    row.notes.append(
        "The load is that of the way to a consumer; a row is upserted for each event. An event is timed from the call "
        "of append until the worker has heard that the transaction with its row is committed. Publisher and projector "
        "have processes of their own."
    )
    return row


class Percentiles:
    """Keeps what a subject finds in each round: the row gets a line for p50 and one for p99.

    Args:
        row: The row.
    """

    def __init__(self, row: Row) -> None:
        self._row = row
        self._found: dict[str, list[tuple[float, float]]] = {}

    def of(self, name: str, ages: Callable[[], Awaitable[list[float]]]) -> Subject:
        """Return the subject whose figure is the median of what it finds."""

        async def subject() -> float:
            return self.note(name, await ages())

        return subject

    def note(self, name: str, ages: list[float]) -> float:
        """Note what was found in a round, under a subject's name or another one; returns the median."""
        ordered = sorted(ages)
        p50, p99 = (ordered[len(ordered) * percentile // 100] for percentile in (P50, P99))
        self._found.setdefault(name, []).append((p50, p99))
        return p50

    def close(self) -> None:
        """Give the row its lines, in the place of the subjects'."""
        for name, found in self._found.items():
            self._row.samples.pop(name, None)
            if name not in self._row.missing:
                self._row.samples[f"{name}, p{P50}"] = [one[0] for one in found]
                self._row.samples[f"{name}, p{P99}"] = [one[1] for one in found]


class _Way:
    """The ways of one log's events."""

    def __init__(self, context: Context, store: EventStore, dsn: str, prefix: str) -> None:
        self._store = store
        self._dsn = dsn
        self._kafka = context.kafka
        self._prefix = prefix
        self.counts = _counts(context)
        self.acknowledged: list[float] = []

    async def to_consumer(self) -> list[float]:
        """Return the ages of events when the consumer had them; `acknowledged` has those when append returned."""
        self.acknowledged = []
        async with (
            relaying("publish", self._dsn, self._kafka, self._prefix),
            relaying("consume", self._kafka, f"{self._prefix}{TOPIC}", *self.counts) as reader,
        ):
            await paced(sum(self.counts), self._append)
            return list(await reader.answer())

    async def through_kafka(self) -> list[float]:
        """Return the ages of events when their rows were committed, by the projector behind Kafka."""
        places = (self._dsn, self._kafka, self._prefix)
        async with (
            relaying("publish", *places),
            relaying("project-from-kafka", *places, *self.counts) as projector,
        ):
            await paced(sum(self.counts), self._append)
            return list(await projector.answer())

    async def from_log(self) -> list[float]:
        """Return the same by the worker that follows the log."""
        async with relaying("project", self._dsn, *self.counts) as projector:
            await paced(sum(self.counts), self._append)
            return list(await projector.answer())

    async def _append(self, number: int) -> None:
        event = stamped(number)
        await self._store.append(f"account-{number % STREAMS}", [event], expected_version=ANY)
        if number >= self.counts[0]:
            self.acknowledged.append(age(event.reference))


def _through_debezium(context: Context, pool: asyncpg.Pool, outbox: Outbox) -> Callable[[], Awaitable[list[float]]]:
    counts = _counts(context)

    async def insert(number: int) -> None:
        event = stamped(number)
        async with pool.acquire() as connection:
            values = raw.row(f"account-{number % STREAMS}", number // STREAMS + 1, event)
            await connection.fetch(debezium_outbox.INSERT, *values)

    async def ages() -> list[float]:
        await outbox.resume()
        try:
            async with relaying("consume", context.kafka, outbox.topic, *counts) as reader:
                await paced(sum(counts), insert)
                return list(await reader.answer())
        finally:
            await outbox.stop()

    return ages


def _counts(context: Context) -> tuple[int, int]:
    """Return how many events of a round do not count, and how many do."""
    events = int(context.sizes.paced * RATE)
    return int(events * _WARM_UP), events


def _judge_p50(row: Row, name: str, at_most: float) -> None:
    short = name.removeprefix(f"{OURS}, ") if name != OURS else "ours"
    row.judge(f"p50, ms: {short}", f"p50, {short}, ms", row.samples.get(f"{name}, p{P50}", []), at_most=at_most)
