"""Failover to a replica: whoever follows the log stops before anything is skipped when acknowledged events were lost.

    make campaign ARGS="-k failover"    the long form: 20 promotions with a lost tail, 5 synchronous ones
    make test                           the quick form: 2 and 1

A primary, a streaming replica by pg_basebackup, and a proxy before them, so that a store meets the new primary as
services do: its pool connects again, and nobody is told. A subscription, a projection and a publisher to Kafka have
read everything, the last of which the replica has not; the primary is killed, the replica promoted, and others write
on. Each must end with the reason, and nothing of the new tail may have been handled. Started anew, subscription and
projection go on from the checkpoints that the new primary has, over the whole of its log; the publisher, whose cursor
is in Kafka, stays where it is.

The broken variant at the end does not look for the event that it stands at. It is caught.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest

from eventstore import (
    ANY,
    BEGINNING,
    Application,
    EventStore,
    RecordedEvent,
    Subscription,
    SubscriptionContext,
)
from eventstore.errors import EventStoreError, LogMismatchError, NotPrimaryError
from eventstore.kafka import KafkaSettings
from eventstore.projections import ProjectionWorker
from eventstore.runtime.workers import Worker
from eventstore.subscriptions import LogFollower, SubscriptionWorker
from eventstore.subscriptions.progress import Progress
from fixtures import shop
from fixtures.campaigns import report
from fixtures.kafka_tools import Kafka
from fixtures.projecting import clean_fold, rows, sales
from fixtures.replicas import Replicated, acknowledged_by_the_replica
from fixtures.shop import OrderPlaced, placed
from fixtures.stores import connected
from fixtures.tcp_proxy import TcpProxy, proxied

WITHIN = 60
HEALS_WITHIN = 5.0
"""Seconds after a primary is there again in which followers have done with its log."""

"""Seconds in which followers must have read on, or have stopped."""
LONG = 20
QUICK = 2
MOST_BEHIND = 32
"""Positions that a replica hands out further on than the primary did: a sequence is logged that far ahead."""


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Kafka:
    """The broker of the run, with names for topics that are this test's alone."""
    return Kafka(KafkaSettings(kafka_bootstrap), f"{uuid4().hex[:8]}.")


@dataclass
class Followers:
    """The three, in one process.

    Attributes:
        handled: What the subscription was called with.
    """

    store: EventStore
    kafka: Kafka
    handled: list[UUID] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.subscription = Subscription("copier", start=BEGINNING)
        self.subscription.on(OrderPlaced)(self._handle)
        self.workers: dict[str, Worker] = {
            "subscription": SubscriptionWorker(self.store, self.subscription),
            "projection": ProjectionWorker(self.store, sales()),
            "publisher": self.kafka.publisher(self.store),
        }
        self.tasks: dict[str, asyncio.Task[None]] = {}

    async def _handle(self, event: RecordedEvent[OrderPlaced], _: SubscriptionContext) -> None:
        self.handled.append(event.event_id)

    def progress(self) -> list[Progress]:
        return [worker.progress for worker in self.workers.values()]

    async def read_on(self, within: float = WITHIN) -> None:
        """Wait until all three have done with the log as it is."""
        async with asyncio.timeout(within):
            for progress in self.progress():
                await progress.caught_up(self.store.log)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        self.tasks = {name: asyncio.create_task(worker.run()) for name, worker in self.workers.items()}
        try:
            yield
        finally:
            for task in self.tasks.values():
                task.cancel()
            await asyncio.gather(*self.tasks.values(), return_exceptions=True)

    async def not_halted(self, *, seconds: float) -> list[str]:
        """Return who has not ended with the reason."""
        await asyncio.wait(self.tasks.values(), timeout=seconds)
        return [
            f"{name} went on"
            for name, task in self.tasks.items()
            if not task.done() or not isinstance(task.exception(), LogMismatchError)
        ]

    async def those_that_went_on_read_on(self) -> None:
        """Wait until those that have not halted have done with the log as it is now: it shows what they do to it."""
        for name, worker in self.workers.items():
            if not self.tasks[name].done():
                with suppress(EventStoreError):
                    await worker.progress.caught_up(self.store.log, within=WITHIN)


async def append(store: EventStore, count: int, chance: random.Random) -> None:
    for number in range(count):
        await store.append(
            f"order-{chance.randrange(5)}", [placed(number + 1, "abc"[number % 3])], expected_version=ANY
        )


async def ids_of(store: EventStore) -> list[UUID]:
    return [event.event_id async for event in store.read_all(of=OrderPlaced)]


@dataclass(frozen=True)
class Sizes:
    """How many events the replica has, how many it loses, and how many are written after it was promoted."""

    kept: int
    lost: int
    new: int


async def one_failover(
    pair: Replicated, kafka: Kafka, chance: random.Random, sizes: Sizes, *, patience: float
) -> list[str]:
    """Lose the tail of a log under its followers; returns what is wrong with how they took it."""
    dsn = pair.primary.databases.create()
    app = Application("shop", events=shop.events)
    async with proxied(dsn) as proxy, EventStore.open(proxy.dsn, app) as store:
        followers = Followers(store, kafka)
        async with followers.running():
            await append(store, sizes.kept, chance)
            await followers.read_on()
            await pair.replicate()
            await pair.part()
            await append(store, sizes.lost, chance)
            await followers.read_on()
            before = await ids_of(store)
            published = await published_by(kafka)

            proxy.refuse()
            await pair.fail_over()
            new_dsn = pair.primary.dsn_of(dsn)
            async with EventStore.open(new_dsn, app) as other:
                await append(other, sizes.new, chance)
                let_in(proxy, new_dsn)
                faults = await followers.not_halted(seconds=patience)
                await followers.those_that_went_on_read_on()
                faults += await what_was_handled(followers, other, kafka, before, published)
    if not faults:
        async with EventStore.open(new_dsn, app) as other:
            faults = await what_comes_of_a_restart(other, kafka, new_dsn)
    return faults


def let_in(proxy: TcpProxy, dsn: str) -> None:
    proxy.lead_to(dsn)
    proxy.accept()


async def published_by(kafka: Kafka) -> set[UUID]:
    return {event.event_id for event in await kafka.events(kafka.orders)}


async def what_was_handled(
    followers: Followers, store: EventStore, kafka: Kafka, before: list[UUID], published: set[UUID]
) -> list[str]:
    """Hold what the followers have done against the log that they read, and the one that took its place."""
    faults = []
    if followers.handled[: len(before)] != before:
        faults.append("the subscription has not handled the log as it was")
    after = await ids_of(store)
    new = set(after) - set(before)
    if new & set(followers.handled):
        faults.append("the subscription has handled something of the new tail")
    now_published = await published_by(kafka)
    if published != set(before):
        faults.append("the publisher had not published the log as it was")
    if now_published & new:
        faults.append("the publisher has published something of the new tail")
    if not followers.tasks["publisher"].done() and not new <= now_published:
        faults.append("the publisher has skipped something of the new tail")
    return faults


async def what_comes_of_a_restart(store: EventStore, kafka: Kafka, dsn: str) -> list[str]:
    """Start the three anew, as after a deployment."""
    faults, log = [], await ids_of(store)
    followers = Followers(store, kafka)
    async with followers.running():
        subscription, projection, publisher = followers.workers.values()
        await subscription.progress.caught_up(store.log, within=WITHIN)
        await projection.progress.caught_up(store.log, within=WITHIN)
        if followers.handled != log[len(log) - len(followers.handled) :]:
            faults.append("the subscription that was started anew has not handled the end of the log")
        async with connected(dsn) as connection:
            if await rows(connection) != await clean_fold(store):
                faults.append("the read model is not what the log says")
        del publisher
        await asyncio.wait([followers.tasks["publisher"]], timeout=WITHIN)
        if not isinstance(_error(followers.tasks["publisher"]), LogMismatchError):
            faults.append("the publisher that was started anew went on")
    return faults


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    return task.exception() if task.done() else None


async def test_a_failover_that_loses_the_tail_stops_every_follower_before_anything_is_skipped(
    replicated: Replicated, kafka: Kafka, chance: random.Random, *, is_long: bool
) -> None:
    rounds = LONG if is_long else QUICK
    for number in range(rounds):
        sizes = Sizes(chance.randint(1, 60), chance.randint(1, 3 * MOST_BEHIND), chance.randint(0, 2 * MOST_BEHIND))
        fresh = Kafka(kafka.settings, f"{kafka.prefix}{number}.")

        assert await one_failover(replicated, fresh, chance, sizes, patience=WITHIN) == [], sizes
    report(f"failover: {rounds} promotions with a lost tail, 3 followers each: all stopped, nothing skipped")


async def test_a_synchronous_failover_loses_nothing_that_was_acknowledged_and_followers_go_on(
    replicated: Replicated, kafka: Kafka, chance: random.Random, *, is_long: bool
) -> None:
    acknowledged, healed = 0, list[float]()
    rounds = 5 if is_long else 1
    for number in range(rounds):
        fresh = Kafka(kafka.settings, f"{kafka.prefix}sync-{number}.")
        appends, seconds = await one_synchronous_failover(replicated, fresh, chance)
        acknowledged += appends
        healed.append(seconds)
    report(
        f"failover: {rounds} synchronous promotion(s), {acknowledged} appends acknowledged, 0 lost; nothing was behind "
        f"{max(healed):.2f} s after the new primary was there, at the most"
    )


async def one_synchronous_failover(pair: Replicated, kafka: Kafka, chance: random.Random) -> tuple[int, float]:
    """Kill the primary under writers; returns how many appends were acknowledged, and how soon all was done with."""
    dsn = pair.primary.databases.create()
    app = Application("shop", events=shop.events)
    acknowledged: list[UUID] = []
    await pair.replicate()
    async with proxied(dsn) as proxy, EventStore.open(proxy.dsn, app) as store, acknowledged_by_the_replica(pair):
        enough, over = asyncio.Event(), asyncio.Event()

        async def write(number: int) -> None:
            while not over.is_set():
                try:
                    result = await store.append(f"order-{number}", [placed(1)], expected_version=ANY, timeout=5)
                except EventStoreError:
                    continue  # unknown, or not appended: not acknowledged
                acknowledged.extend(result.event_ids)
                if len(acknowledged) > wanted:
                    enough.set()

        wanted = chance.randint(20, 200)
        followers = Followers(store, kafka)
        async with followers.running():
            writers = [asyncio.create_task(write(number)) for number in range(4)]
            async with asyncio.timeout(WITHIN):
                await enough.wait()
            proxy.refuse()
            await pair.fail_over()
            let_in(proxy, pair.primary.dsn_of(dsn))
            began = time.monotonic()
            over.set()
            async with asyncio.timeout(HEALS_WITHIN):
                await asyncio.gather(*writers)
                await followers.read_on()
            seconds = time.monotonic() - began
            log = await ids_of(store)

            assert set(acknowledged) <= set(log)
            assert list(dict.fromkeys(followers.handled)) == log
            assert await published_by(kafka) == set(log)
            assert not any(task.done() for task in followers.tasks.values())
    return len(acknowledged), seconds


async def test_a_replica_is_not_followed(replicated: Replicated) -> None:
    dsn = replicated.primary.databases.create()
    replica = await replicated.replicate()
    async with EventStore.open(replica.dsn_of(dsn), shop.app) as store:
        with pytest.raises(NotPrimaryError, match="replica"):
            await anext(store.follow(start=BEGINNING))


# --- a broken variant ----------------------------------------------------------------------------------------------


async def test_followers_that_do_not_look_for_their_event_are_caught(
    replicated: Replicated, kafka: Kafka, chance: random.Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take the new primary's log for the one that they have read."""

    async def looks_nowhere(*_: Any) -> None:
        return

    for place in ("subscriptions.following", "subscriptions.reader", "projections.worker", "kafka.taking_over"):
        monkeypatch.setattr(f"eventstore.{place}.require_on_log", looks_nowhere)
    next_now = LogFollower.next_now

    async def anywhere(self: LogFollower) -> Any:
        self._event_id = None
        return await next_now(self)

    monkeypatch.setattr(LogFollower, "next_now", anywhere)

    faults = await one_failover(replicated, kafka, chance, Sizes(20, 3 * MOST_BEHIND, 3 * MOST_BEHIND), patience=3)
    assert "publisher went on" in faults
    assert "the publisher has skipped something of the new tail" in faults
    assert "subscription went on" in faults
