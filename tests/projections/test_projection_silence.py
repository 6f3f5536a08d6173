"""A connection that dies without a word: a read model's worker notices, and goes on within seconds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from eventstore import EventStore
from eventstore.db.database import ConnectionSession
from eventstore.errors import UnavailableError
from eventstore.projections import ProjectionRunner, ProjectionWorker
from fixtures.projecting import WITHIN, fill, sales, started
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy

HEALED = 5
"""Seconds after which whatever was cut off must go on."""


@pytest.fixture
async def behind(proxy: TcpProxy) -> AsyncIterator[EventStore]:
    """A store whose connections can die."""
    async with open_store(proxy.dsn) as store:
        yield store


async def test_a_worker_goes_on(store: EventStore, behind: EventStore, proxy: TcpProxy) -> None:
    await fill(store, 1)
    worker = ProjectionWorker(behind, sales())
    async with started(worker):
        await worker.progress.caught_up(store.log)
        proxy.go_deaf()
        await fill(store, 1)
        await worker.progress.caught_up(store.log, within=HEALED)


async def test_a_worker_that_is_stopped_stops_cleanly(store: EventStore, behind: EventStore, proxy: TcpProxy) -> None:
    worker = ProjectionWorker(behind, sales())
    async with started(worker) as task:
        await worker.progress.caught_up(store.log)
        proxy.go_deaf()
        task.cancel()
        async with asyncio.timeout(HEALED):
            await asyncio.wait({task})
    assert task.cancelled()
    assert worker.progress.failure is None


async def test_who_applies_without_a_lease_hears_of_it_and_can_go_on(behind: EventStore, proxy: TcpProxy) -> None:
    """As a projector does that is fed by Kafka."""

    async def note(session: ConnectionSession) -> None:
        await session.fetchrow("load_checkpoint", "sales@1")

    runner = ProjectionRunner(behind, sales())
    async with asyncio.timeout(WITHIN):
        async with runner.opened():
            await runner.apply([], session_hook=note)
            proxy.go_deaf()
            async with asyncio.timeout(HEALED):
                with pytest.raises(UnavailableError, match="has not answered"):
                    await runner.apply([], session_hook=note)
        async with asyncio.timeout(HEALED), runner.opened():
            await runner.apply([], session_hook=note)


@pytest.mark.parametrize("at", ["the place", "the commit"])
async def test_it_is_noticed_in_the_middle_of_a_transaction(behind: EventStore, proxy: TcpProxy, at: str) -> None:
    async def note(session: ConnectionSession) -> None:
        if at == "the commit":
            await session.fetchrow("load_checkpoint", "sales@1")
        proxy.go_deaf()
        if at == "the place":
            await session.fetchrow("load_checkpoint", "sales@1")

    runner = ProjectionRunner(behind, sales())
    async with asyncio.timeout(HEALED), runner.opened():
        with pytest.raises(UnavailableError, match="has not answered"):
            await runner.apply([], session_hook=note)
