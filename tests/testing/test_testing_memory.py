"""What the store in memory has of a database's habits, and what it has not."""

from __future__ import annotations

import asyncio

import pytest

from eventstore import ANY, NO_STREAM
from eventstore.errors import ConfigurationError, UnstorablePayloadError
from eventstore.testing import memory_store
from eventstore.testing.places import Places, PlacesSession
from fixtures.shop import app, placed


async def test_positions_of_an_undone_transaction_are_a_gap() -> None:
    store = memory_store(app)
    with pytest.raises(ZeroDivisionError):
        async with store.transaction() as tx:
            await tx.append("order-1", [placed()] * 3, expected_version=NO_STREAM)
            raise ZeroDivisionError
    result = await store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert str(result.position) == "4"
    assert await store.log.event_at(3) is None
    assert await store.log.event_at(4) == result.event_ids[0]


async def test_transactions_that_commit_in_another_order_are_read_in_the_order_of_positions() -> None:
    store = memory_store(app)
    async with store.transaction() as first:
        await first.append("order-1", [placed()], expected_version=NO_STREAM)
        async with store.transaction() as second:
            await second.append("order-2", [placed()], expected_version=NO_STREAM)
            await second.append("order-3", [placed()], expected_version=NO_STREAM)
        await first.append("order-4", [placed()], expected_version=NO_STREAM)

    assert [event.stream_id async for event in store.read_all()] == ["order-1", "order-2", "order-3", "order-4"]


async def test_it_has_no_sql() -> None:
    store = memory_store(app)

    async with store.transaction() as tx:
        with pytest.raises(AttributeError, match="--eventstore=postgres"):
            _ = tx.connection
    with pytest.raises(ConfigurationError, match="in memory"):
        _ = store.database
    assert repr(store) == "EventStore(in memory)"


async def test_its_payloads_have_a_limit_too() -> None:
    with pytest.raises(UnstorablePayloadError):
        await memory_store(app, max_payload=10).append("order-1", [placed()], expected_version=NO_STREAM)


async def test_two_stores_share_nothing() -> None:
    one, another = memory_store(app), memory_store(app)
    await one.append("order-1", [placed()], expected_version=NO_STREAM)

    assert await another.read_all().to_list() == []


async def test_it_stays_quick_when_it_holds_much() -> None:
    """Appending must not become slower with what is there: a real log has 262,200 events."""
    store = memory_store(app)
    async with asyncio.timeout(30):
        for number in range(200):
            await store.append(f"order-{number % 7}", [placed()] * 100, expected_version=ANY)

    assert len(await store.read_all().to_list()) == 20_000


async def test_what_only_a_database_answers_is_refused_with_what_to_use() -> None:
    session = PlacesSession(Places(), None, check=lambda: None)
    with pytest.raises(ConfigurationError, match="does not answer 'hold_leases': use one on PostgreSQL"):
        await session.fetch("hold_leases")
