"""Pages on their way while one is consumed: at most one, never in a transaction, nothing lost or left behind."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.codec import StoredEvent
from eventstore.codec.pages import PageDecoder
from eventstore.errors import UnavailableError
from eventstore.store.reading import FIRST_PAGE, PAGE, PAGE_BYTES, SLICE
from fixtures.shop import NoteTaken, Order, app, placed

COUNT = FIRST_PAGE + 2 * PAGE + 7


@pytest.fixture
async def long(store: EventStore) -> EventStore:
    """A store with a stream of several pages."""
    await store.append("order-1", [placed(number) for number in range(COUNT)], expected_version=NO_STREAM)
    return store


class Fetches:
    """The pages that are asked of a log: how many, how long, and what happens before each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, store: EventStore) -> None:
        self.sizes: list[int] = []
        self.under_way = 0
        self.before: Callable[[int], Awaitable[None]] | None = None
        self._read_stream = store.log.read_stream
        monkeypatch.setattr(store.log, "read_stream", self._fetch)

    async def _fetch(self, wanted: Any, limit: int) -> list[StoredEvent]:
        self.sizes.append(limit)
        self.under_way += 1
        try:
            if self.before is not None:
                await self.before(len(self.sizes))
            return await self._read_stream(wanted, limit)
        finally:
            self.under_way -= 1


@pytest.fixture
def fetches(monkeypatch: pytest.MonkeyPatch, long: EventStore) -> Fetches:
    return Fetches(monkeypatch, long)


def quantities(events: Sequence[Any]) -> list[int]:
    return [event.data.quantity for event in events]


async def until(reached: Callable[[], bool]) -> None:
    """Let others go on until something is so."""
    async with asyncio.timeout(10):
        while not reached():  # noqa: ASYNC110 - what is waited for is the event loop's own turn, step by step
            await asyncio.sleep(0)


async def test_one_page_is_on_its_way_and_no_more(long: EventStore, fetches: Fetches) -> None:
    events = long.read_stream("order-1")
    first = await anext(events)

    assert first.stream_version == 1
    assert len(fetches.sizes) == 2
    await until(lambda: not fetches.under_way)
    for _ in range(FIRST_PAGE - 1):
        await anext(events)
    assert len(fetches.sizes) == 2  # consuming a page asks for nothing
    await anext(events)
    assert len(fetches.sizes) == 3
    assert quantities(await events.to_list()) == list(range(FIRST_PAGE + 1, COUNT))


async def test_to_list_and_one_by_one_are_the_same(long: EventStore) -> None:
    listed = await long.read_stream("order-1").to_list()

    assert quantities(listed) == list(range(COUNT))
    assert [event async for event in long.read_stream("order-1")] == listed
    assert await long.read_all().to_list() == listed
    assert [event async for event in long.read_stream("order-1", limit=FIRST_PAGE + 3)] == listed[: FIRST_PAGE + 3]


async def test_of_a_page_only_a_slice_is_decoded_before_it_is_consumed(
    long: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page of decoded events would live long enough to cost the garbage collector more than the decoding."""
    decoded = 0
    decode = PageDecoder.events

    def counting(self: PageDecoder, page: Sequence[StoredEvent]) -> list[Any]:
        nonlocal decoded
        decoded += len(page)
        return decode(self, page)

    monkeypatch.setattr(PageDecoder, "events", counting)

    consumed = 0
    async for _ in long.read_stream("order-1"):
        consumed += 1
        assert consumed <= decoded < consumed + SLICE

    assert consumed == decoded == COUNT


async def test_a_limit_asks_for_nothing_beyond_it(long: EventStore, fetches: Fetches) -> None:
    assert len(await long.read_stream("order-1", limit=5).to_list()) == 5
    assert fetches.sizes == [5]


async def test_an_iterator_that_is_left_leaves_one_query_that_ends_by_itself(
    long: EventStore, fetches: Fetches
) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number > 1:
            await gate.wait()

    fetches.before = hold
    async for _ in long.read_stream("order-1"):
        break
    gc.collect()
    assert fetches.under_way == 1
    gate.set()
    await until(lambda: not fetches.under_way)
    assert len(fetches.sizes) == 2
    assert len(asyncio.all_tasks()) == 1


async def test_the_failure_of_a_page_that_nobody_waits_for_is_nobodys(
    long: EventStore, fetches: Fetches, caplog: pytest.LogCaptureFixture
) -> None:
    await fail_on(fetches, {2})
    async for _ in long.read_stream("order-1"):
        break
    await until(lambda: not fetches.under_way)
    gc.collect()
    await asyncio.sleep(0)

    assert caplog.records == []


async def fail_on(fetches: Fetches, numbers: set[int]) -> None:
    async def fail(number: int) -> None:
        if number in numbers:
            raise UnavailableError("not now")

    fetches.before = fail


async def test_a_page_that_failed_is_asked_for_again_and_nothing_is_skipped(long: EventStore, fetches: Fetches) -> None:
    await fail_on(fetches, {2, 3})
    events, seen = long.read_stream("order-1"), list[Any]()
    for _ in range(2):
        with pytest.raises(UnavailableError):
            async for event in events:
                seen.append(event)
    seen += await events.to_list()

    assert quantities(seen) == list(range(COUNT))


async def test_a_list_whose_page_failed_is_whole_when_it_is_asked_for_again(long: EventStore, fetches: Fetches) -> None:
    await fail_on(fetches, {3})
    events = long.read_stream("order-1")
    with pytest.raises(UnavailableError):
        await events.to_list()

    assert quantities(await events.to_list()) == list(range(COUNT))


async def test_a_reader_that_is_cancelled_while_it_waits_can_go_on(long: EventStore, fetches: Fetches) -> None:
    gate = asyncio.Event()

    async def hold(number: int) -> None:
        if number == 2:
            await gate.wait()

    fetches.before = hold
    events, seen = long.read_stream("order-1"), list[Any]()

    async def read() -> None:
        async for event in events:
            seen.append(event)

    task = asyncio.create_task(read())
    await until(lambda: len(seen) == FIRST_PAGE)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    seen += await events.to_list()

    assert quantities(seen) == list(range(COUNT))


async def test_a_page_that_came_while_its_reader_was_cancelled_is_not_lost(long: EventStore, fetches: Fetches) -> None:
    for steps in range(30):  # the cancellation meets the page at each of its steps
        events, seen = long.read_stream("order-1"), list[Any]()
        for _ in range(FIRST_PAGE):
            seen.append(await anext(events))
        task = asyncio.ensure_future(anext(events))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            seen.append(task.result())
        else:
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                seen.append(task.result())
        seen += await events.to_list()
        assert quantities(seen) == list(range(COUNT))
    assert fetches.under_way == 0


async def test_in_a_transaction_nothing_is_asked_ahead_so_its_connection_is_the_callers(long: EventStore) -> None:
    seen = 0
    async with long.transaction() as tx:
        async for event in tx.read_stream("order-1"):
            seen += await tx.connection.fetchval("SELECT 1")
            if event.stream_version % 500 == 0:
                await tx.append("order-2", [placed()], expected_version=ANY)
        assert seen == COUNT
        loaded = await long.repository(Order).load("1", tx=tx)
        assert loaded.version == COUNT


async def test_a_pool_of_two_is_enough_to_read_and_write_at_once(dsn: str) -> None:

    async with EventStore.open(dsn, app, pool_size=2) as store:
        await store.append("order-1", [placed(number) for number in range(COUNT)], expected_version=NO_STREAM)

        async def copy(to: str) -> None:
            async for event in store.read_stream("order-1"):
                if event.stream_version % 100 == 0:
                    await store.append(to, [event.data], expected_version=ANY)

        await asyncio.gather(*(copy(f"order-copy-{number}") for number in range(4)))
        assert len(await store.read_all().to_list()) == COUNT + 4 * (COUNT // 100)


async def test_pages_of_large_events_are_small(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "x" * 100_000
    for number in range(0, 300, 50):
        notes = [NoteTaken(text=f"{number + n}{text}") for n in range(50)]
        await store.append("note-1", notes, expected_version=number)
    fetches = Fetches(monkeypatch, store)

    assert len(await store.read_stream("note-1").to_list()) == 300
    assert fetches.sizes[0] == FIRST_PAGE
    assert max(fetches.sizes[1:]) * 100_000 <= PAGE_BYTES


async def test_pages_grow_while_events_are_small(long: EventStore, fetches: Fetches) -> None:
    await long.read_stream("order-1").to_list()

    assert fetches.sizes == [FIRST_PAGE, PAGE, PAGE, PAGE]


async def test_no_connection_is_held_between_pages(
    long: EventStore, fetches: Fetches, connection: asyncpg.Connection
) -> None:
    async with asyncio.timeout(10):
        async for _ in long.read_stream("order-1"):
            await until(lambda: not fetches.under_way)
            busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'eventstore' AND state <> 'idle'"
            while await connection.fetchval(busy):
                pass
            break
