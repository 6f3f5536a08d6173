"""A projector behind Kafka that crashes at any place where it waits: in the end its read model is a clean fold.

    make campaign            the long form: every place, in every way
    make test                the quick form: places chosen by chance

The places are those of its own tasks, and those where Kafka's client has called it. In every way: it is cancelled and
cleans up; its connections to the database break and it goes on by itself; it dies as far as the database can tell, in
which all that it does is. Of its group it always takes its leave: else the next one would wait for its session to end,
at each of some hundred places. Projectors that die without a word are in `test_projector.py`.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import asyncpg
import pytest

from eventstore import EventStore
from eventstore.kafka import KafkaProjector, KafkaSettings
from eventstore.kafka.arrivals import KafkaStretch
from eventstore.lifecycle import ended
from fixtures.campaigns import report
from fixtures.crashing import WAYS, Way, crashes, crashing, reported
from fixtures.kafka_sales import projector
from fixtures.kafka_tools import Kafka, publish_all, working
from fixtures.projecting import WITHIN, clean_fold, fill, rows, sales
from fixtures.stepping import Steps
from fixtures.stores import connected, open_store
from fixtures.tcp_proxy import TcpProxy, proxied


@dataclass
class Bench:
    """A topic with some events, and read models that are crashed on it.

    Attributes:
        kafka: The broker.
        direct: A store that nothing happens to.
        store: A store behind the proxy.
        proxy: The proxy.
        connection: A reader's connection.
    """

    kafka: Kafka
    direct: EventStore
    store: EventStore
    proxy: TcpProxy
    connection: asyncpg.Connection
    _numbers: count[int] = field(default_factory=partial(count, 1))

    def new_name(self) -> str:
        """Return the name of a read model that there was none of."""
        return f"sales_{next(self._numbers)}"

    def projector(self, store: EventStore, name: str) -> KafkaProjector:
        return projector(self.kafka, store, sales(name))

    async def crash(self, name: str, way: Way, at: int) -> Steps:
        """Run a projector until it is through, or has crashed."""
        worker = self.projector(self.store, name)
        async with asyncio.timeout(WITHIN), crashing(worker.run(), self.proxy, way, at) as steps:
            caught_up = asyncio.create_task(worker.caught_up())
            try:
                await asyncio.wait({steps.task, caught_up}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await ended(caught_up)
        return steps

    async def is_right(self, name: str) -> bool:
        """Let a projector that nothing happens to go on to the end, and hold the read model against a clean fold."""
        worker = self.projector(self.direct, name)
        async with working(worker):
            await worker.caught_up()
        return await rows(self.connection, f"{name}_v1") == await clean_fold(self.direct)

    async def crash_is_right(self, way: Way, at: int) -> Steps:
        """Crash a projector, and require that its read model is right in the end."""
        name = self.new_name()
        steps = await self.crash(name, way, at)
        assert await self.is_right(name), f"{way} at {at}, in {steps.met}"
        return steps


@asynccontextmanager
async def bench_on(dsn: str, bootstrap: str) -> AsyncIterator[Bench]:
    kafka = Kafka(KafkaSettings(bootstrap), f"{uuid.uuid4().hex[:8]}.")
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(dsn))
        direct = await stack.enter_async_context(open_store(dsn))
        store = await stack.enter_async_context(open_store(proxy.dsn))
        connection = await stack.enter_async_context(connected(dsn))
        for number in range(3):
            await fill(direct, 8, stream_id=f"order-{number}")
        await publish_all(kafka, direct)
        yield Bench(kafka, direct, store, proxy, connection)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.kafka.feeding.BATCH", 5)
    monkeypatch.setattr("eventstore.kafka.projecting.BATCH", 5)


async def test_crashed_at_every_place_where_it_waits_a_projector_leaves_a_clean_fold(
    dsn: str, kafka_bootstrap: str, chance: random.Random, *, is_long: bool
) -> None:
    met: Counter[tuple[str, str]] = Counter()
    async with bench_on(dsn, kafka_bootstrap) as bench:
        for way in WAYS:
            async for task in crashes(partial(bench.crash_is_right, way), None if is_long else 8, chance):
                met[way, task] += 1
    report(f"projector crashed at {reported(met)}; each read model a clean fold")
    assert met.total() >= (300 if is_long else 24)


async def test_the_campaign_catches_offsets_outside_the_projectors_transaction(
    dsn: str, kafka_bootstrap: str, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    async def note_at_once(stretch: KafkaStretch, _session: Any) -> None:
        pool = stretch.places._database
        await stretch.places.move(pool, stretch.offsets, since=stretch.since, versions=stretch.versions)

    async with bench_on(dsn, kafka_bootstrap) as bench:
        monkeypatch.setattr(KafkaStretch, "note", note_at_once)
        places = (await bench.crash(bench.new_name(), "dead", 0)).taken
        applying = range(places // 2, places + 1)  # before, it starts
        for at in chance.sample(applying, len(applying)):
            name = bench.new_name()
            await bench.crash(name, chance.choice(WAYS), at)
            if not await bench.is_right(name):
                report(f"caught at place {at} of {places}")
                return
    pytest.fail("it was not caught")
