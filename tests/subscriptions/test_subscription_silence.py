"""A connection that dies without a word: whoever follows the log notices, and goes on within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from eventstore import BEGINNING, EventStore, RecordedEvent, Subscription, SubscriptionContext
from eventstore.errors import UnavailableError
from eventstore.lifecycle import running
from eventstore.subscriptions import SubscriptionWorker
from fixtures.shop import OrderPlaced
from fixtures.stores import open_store
from fixtures.subscribing import WITHIN, fill, kept, take
from fixtures.tcp_proxy import TcpProxy

HEALED = 5
"""Seconds after which whatever was cut off must go on."""


@pytest.fixture
async def behind(proxy: TcpProxy) -> AsyncIterator[EventStore]:
    """A store whose connections can die."""
    async with open_store(proxy.dsn) as store:
        yield store


async def test_a_worker_goes_on(store: EventStore, behind: EventStore, proxy: TcpProxy) -> None:
    mailer, seen = Subscription("mailer", start=BEGINNING), asyncio.Queue[int]()

    @mailer.on(OrderPlaced)
    async def note(event: RecordedEvent[OrderPlaced], _: SubscriptionContext) -> None:
        seen.put_nowait(event.data.quantity)

    await fill(store, 1)
    worker = SubscriptionWorker(behind, mailer)
    async with asyncio.timeout(WITHIN), running(worker.run()):
        assert await seen.get() == 1
        await worker.progress.until(lambda: worker.progress.state == "live")
        proxy.go_deaf()
        await fill(store, 1, first=2)
        assert await asyncio.wait_for(seen.get(), HEALED) == 2


async def test_a_reader_goes_on_behind_what_it_has_committed(
    store: EventStore, behind: EventStore, proxy: TcpProxy
) -> None:
    await fill(store, 2)
    async with behind.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        assert await take(reader, 2) == [1, 2]
        proxy.go_deaf()
        await fill(store, 1, first=3)
        async with asyncio.timeout(HEALED):
            assert await take(reader, 1) == [3]
    assert await kept(store) == 3


async def test_a_commit_is_made_all_the_same(store: EventStore, behind: EventStore, proxy: TcpProxy) -> None:
    await fill(store, 1)
    async with behind.subscription("mailer", of=OrderPlaced, start=BEGINNING) as reader:
        batch = await anext(reader)
        proxy.go_deaf()
        async with asyncio.timeout(HEALED):
            await batch.commit()
    assert await kept(store) == 1


async def test_whoever_follows_without_a_name_hears_of_it_and_can_ask_again(
    store: EventStore, behind: EventStore, proxy: TcpProxy
) -> None:
    await fill(store, 1)
    following = behind.follow(of=OrderPlaced, start=BEGINNING)
    await anext(following)
    proxy.go_deaf()
    await fill(store, 1, first=2)
    async with asyncio.timeout(HEALED):
        with pytest.raises(UnavailableError, match="has not answered"):
            await anext(following)
        event: RecordedEvent[Any] = await anext(following)
    assert event.data.quantity == 2
