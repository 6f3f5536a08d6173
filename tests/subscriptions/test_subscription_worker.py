"""Declared handlers are called at least once for each event, in order; what they cannot do stops at that event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from eventstore import (
    ANY,
    BEGINNING,
    END,
    NO_STREAM,
    Application,
    EventStore,
    Position,
    RecordedEvent,
    Subscription,
    SubscriptionContext,
    check_health,
    current_metadata,
)
from eventstore.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    SubscriptionFailedError,
    TransactionConflictError,
    UnavailableError,
    UnknownEventTypeError,
    WrongExpectedVersionError,
)
from eventstore.subscriptions import Leases, SubscriptionWorker
from eventstore.subscriptions.leases import new_owner
from eventstore.testing import memory_store
from fixtures import shop
from fixtures.projecting import cancelled
from fixtures.shop import NoteTaken, OrderPlaced, OrderShipped, UnregisteredEvent, placed
from fixtures.stores import open_store

WITHIN = 30


class BoomError(Exception):
    """What a handler fails with."""


class Mailer:
    """A subscription that notes what it is called with, and fails as it is told."""

    def __init__(self, **declared: Any) -> None:
        self.sent: list[int] = []
        self.attempts: list[int] = []
        self.fails: list[Exception] = []
        self.subscription = Subscription("mailer", **({"start": BEGINNING} | declared))
        self.subscription.on(OrderPlaced)(self.send)

    async def send(self, event: RecordedEvent[OrderPlaced], ctx: SubscriptionContext) -> None:
        self.attempts.append(ctx.attempt)
        if self.fails:
            raise self.fails.pop(0)
        self.sent.append(event.data.quantity)

    def worker(self, store: EventStore) -> SubscriptionWorker:
        return SubscriptionWorker(store, self.subscription)

    async def catch_up(self, store: EventStore) -> None:
        async with asyncio.timeout(WITHIN):
            await self.worker(store).run_until_caught_up()


@pytest.fixture
def mailer() -> Mailer:
    return Mailer()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back off for moments only."""
    monkeypatch.setattr("eventstore.lifecycle.random.uniform", lambda *_: 0.02)


async def fill(store: EventStore, count: int, first: int = 1) -> None:
    for number in range(first, first + count):
        await store.append("order-1", [placed(number)], expected_version=ANY)


@asynccontextmanager
async def started(worker: SubscriptionWorker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    async with asyncio.timeout(WITHIN):
        yield task
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_event_is_handled_once_and_the_next_run_goes_on(any_store: EventStore, mailer: Mailer) -> None:
    await fill(any_store, 3)
    await mailer.catch_up(any_store)
    await any_store.append("note-1", [NoteTaken(text="x")], expected_version=NO_STREAM)
    await fill(any_store, 2, first=4)
    await mailer.catch_up(any_store)
    await mailer.catch_up(any_store)

    assert mailer.sent == [1, 2, 3, 4, 5]


async def test_a_handler_that_is_cut_off_is_called_again(any_store: EventStore) -> None:
    """Its process may have died after the mail was sent: at least once."""
    hangs, sent = asyncio.Event(), list[int]()
    subscription = Subscription("mailer", start=BEGINNING)

    @subscription.on(OrderPlaced)
    async def send(event: RecordedEvent[OrderPlaced], _: SubscriptionContext) -> None:
        sent.append(event.data.quantity)
        if len(sent) == 2:
            hangs.set()
            await asyncio.Event().wait()

    await fill(any_store, 3)
    async with started(SubscriptionWorker(any_store, subscription)):
        await hangs.wait()
    async with asyncio.timeout(WITHIN):
        await SubscriptionWorker(any_store, subscription).run_until_caught_up()

    assert sent == [1, 2, 2, 3]


async def test_a_handler_is_tried_again_and_nothing_is_skipped(any_store: EventStore, mailer: Mailer) -> None:
    mailer.fails = [BoomError(), BoomError()]
    await fill(any_store, 2)
    await mailer.catch_up(any_store)

    assert (mailer.sent, mailer.attempts) == ([1, 2], [1, 2, 3, 1])


async def test_a_handler_that_expects_the_wrong_version_has_failed(any_store: EventStore) -> None:
    """It would expect the same one for ever."""
    await fill(any_store, 1)
    wrong = WrongExpectedVersionError("order-1", 0, 1)
    mailer = Mailer(attempts=2)
    mailer.fails = [wrong, wrong]
    with pytest.raises(SubscriptionFailedError, match="2 time"):
        await mailer.catch_up(any_store)


@pytest.mark.parametrize(
    "passing",
    [UnavailableError("away"), TransactionConflictError("deadlock"), OutcomeUnknownError("order-1", [], "lost")],
)
async def test_what_passes_by_itself_is_not_counted(any_store: EventStore, passing: Exception) -> None:
    await fill(any_store, 1)
    mailer = Mailer(attempts=2)
    mailer.fails = [passing] * 4
    await mailer.catch_up(any_store)

    assert (mailer.sent, mailer.attempts) == ([1], [1, 1, 1, 1, 1])


async def test_a_handler_that_waits_for_what_was_cancelled_has_failed(any_store: EventStore) -> None:
    subscription = Subscription("mailer", start=BEGINNING, attempts=2)

    @subscription.on(OrderPlaced)
    async def send(_: RecordedEvent[OrderPlaced], __: SubscriptionContext) -> None:
        await cancelled()

    await fill(any_store, 1)
    with pytest.raises(SubscriptionFailedError, match=r"2 time.*CancelledError"):
        async with asyncio.timeout(WITHIN):
            await SubscriptionWorker(any_store, subscription).run_until_caught_up()


async def test_a_handler_that_fails_too_often_stops_before_its_event(any_store: EventStore) -> None:
    mailer = Mailer(attempts=2)
    await fill(any_store, 3)
    worker = mailer.worker(any_store)
    mailer.fails = [BoomError("secret")] * 2
    with pytest.raises(SubscriptionFailedError, match=r"'mailer' failed 2 time.*version 1 of 'order-1'") as failed:
        await worker.run_until_caught_up()

    assert isinstance(failed.value.__cause__, BoomError)
    assert "secret" not in str(failed.value)
    assert worker.progress.state == "failed"
    await mailer.catch_up(any_store)
    assert mailer.sent == [1, 2, 3]


async def test_a_handler_is_cut_off_when_the_turn_is_lost(any_store: EventStore) -> None:
    begun, cancelled = asyncio.Event(), asyncio.Event()
    subscription = Subscription("mailer", start=BEGINNING)

    @subscription.on(OrderPlaced)
    async def send(_: RecordedEvent[OrderPlaced], __: SubscriptionContext) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    await fill(any_store, 1)
    async with started(SubscriptionWorker(any_store, subscription)):
        await begun.wait()
        await Leases(any_store.log.session).seize("subscription:mailer", new_owner())
        await cancelled.wait()


async def test_of_two_workers_one_works(any_store: EventStore) -> None:
    first, second = Mailer(), Mailer()
    await fill(any_store, 1)
    one, other = first.worker(any_store), second.worker(any_store)
    async with started(one):
        await one.progress.wait_for(Position(1))
        async with started(other):
            result = await any_store.append("order-1", [placed(2)], expected_version=ANY)
            await one.progress.wait_for(result.position)

    assert (first.sent, second.sent) == ([1, 2], [])


async def test_what_a_handler_appends_is_caused_by_its_event(any_store: EventStore) -> None:
    subscription = Subscription("policy", start=BEGINNING)

    @subscription.on(OrderPlaced)
    async def ship(event: RecordedEvent[OrderPlaced], ctx: SubscriptionContext) -> None:
        assert current_metadata().causation_id == str(event.event_id)
        await ctx.store.append("shipment-1", [OrderShipped(carrier="dhl")], expected_version=ANY)

    await fill(any_store, 1)
    async with asyncio.timeout(WITHIN):
        await SubscriptionWorker(any_store, subscription).run_until_caught_up()

    (cause,) = await any_store.read_stream("order-1").to_list()
    (effect,) = await any_store.read_stream("shipment-1").to_list()
    assert effect.causation_id == str(cause.event_id)


async def test_workers_run_it_in_memory_and_on_postgresql(any_store: EventStore) -> None:
    """So that users test their handlers without a database."""
    mailer = Mailer()
    app = Application("shop", events=shop.events, subscriptions=[mailer.subscription])
    async with app.workers(any_store, "mailer") as workers:
        result = await any_store.append("order-1", [placed(1)], expected_version=NO_STREAM)
        await workers["mailer"].progress.wait_for(result.position, within=WITHIN)

    assert mailer.sent == [1]


# --- declarations --------------------------------------------------------------------------------------------------


def test_an_application_refuses_two_workers_of_a_name_and_events_it_does_not_know() -> None:
    mailer = Mailer().subscription
    with pytest.raises(ConfigurationError, match="mailer"):
        Application("shop", events=shop.events, subscriptions=[mailer, Subscription("mailer", start=END)])
    strange = Subscription("strange", start=END)
    strange.on(UnregisteredEvent)(Mailer().send)
    with pytest.raises(UnknownEventTypeError):
        Application("shop", events=shop.events, subscriptions=[strange])
    with pytest.raises(ConfigurationError, match="two handlers"):
        mailer.on(OrderPlaced)(Mailer().send)


# --- health --------------------------------------------------------------------------------------------------------


async def test_health_says_how_far_each_follower_is_and_what_it_does(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.subscriptions.reporting.REPORT_SECONDS", 0.01)
    mailer = Mailer(attempts=1)
    app = Application("shop", events=shop.events, subscriptions=[mailer.subscription])
    async with open_store(dsn, app) as store:
        await fill(store, 3)
        [before] = (await check_health(store, app)).followers
        assert (before.state, before.events_behind, before.is_counted) == ("not begun", 3, True)
        assert before.seconds_behind is not None

        async with asyncio.timeout(WITHIN), app.workers(store):
            while (await check_health(store, app)).followers[0].state != "live":  # noqa: ASYNC110 - as a probe asks
                await asyncio.sleep(0.01)
            [live] = (await check_health(store, app)).followers
        assert (live.position, live.lag, live.events_behind, live.seconds_behind) == (3, 0, 0, None)
        assert None not in {live.owner, live.rate}

        [stopped] = (await check_health(store, app)).followers
        assert (stopped.state, stopped.owner) == ("stopped", None)

        mailer.fails = [BoomError("secret")]
        await fill(store, 1, first=4)
        with pytest.raises(SubscriptionFailedError):
            async with app.workers(store) as workers:
                await workers["mailer"].progress.wait_for(Position(4))
        health = await check_health(store, app)
        assert [follower.state for follower in health.late(3600)] == ["failed"]
        assert "BoomError" in f"{health.followers[0].reason}"
        assert "secret" not in f"{health.followers[0].reason}"


async def test_health_counts_up_to_a_number_and_says_so(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.health.looking.COUNTED", 2)
    mailer = Mailer()
    app = Application("shop", events=shop.events, subscriptions=[mailer.subscription])
    await fill(store, 2)
    [exact] = (await check_health(store, app)).followers
    await fill(store, 1)
    [more] = (await check_health(store, app)).followers

    assert (exact.events_behind, exact.is_counted) == (2, True)
    assert (more.events_behind, more.is_counted) == (3, False)


async def test_health_needs_postgresql() -> None:
    with pytest.raises(ConfigurationError, match="in memory"):
        await check_health(memory_store(shop.app))
