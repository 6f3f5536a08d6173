"""Group commit when a caller goes, a connection breaks, or the store closes: each append hears the truth."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore, NewEvent
from eventstore.errors import (
    ClosedError,
    OutcomeUnknownError,
    UnavailableError,
    WrongExpectedVersionError,
)
from eventstore.events import AppendResult
from eventstore.store import event_store, grouping
from eventstore.store.grouping import LANES
from eventstore.store.queueing import Pending
from fixtures.group_commit import held, until_waiting, versions
from fixtures.shop import SHIPPED, OrderPlaced, app, placed
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy, When

# --- callers that go away --------------------------------------------------------------------------------------------


async def test_an_append_that_is_cancelled_before_it_is_sent_does_not_happen(store: EventStore) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    sent = [asyncio.create_task(store.append("order-1", [SHIPPED], expected_version=ANY))]
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # on its way; what comes for the stream from here on stays behind
    behind = [asyncio.create_task(store.append("order-1", [SHIPPED], expected_version=ANY)) for _ in range(3)]
    await asyncio.sleep(0)
    behind[1].cancel()

    await asyncio.gather(*sent, *behind, return_exceptions=True)
    assert behind[1].cancelled()
    assert await versions(store, "order-1") == [1, 2, 3, 4]


async def test_an_append_that_is_cancelled_after_it_was_sent_runs_on_and_its_neighbours_do_not_notice(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with held(connection, "order-1"):
        callers = [asyncio.create_task(store.append("order-1", [SHIPPED], expected_version=ANY)) for _ in range(3)]
        await until_waiting(connection, writers=1)
        callers[0].cancel()
        await asyncio.wait([callers[0]])
        assert callers[0].cancelled()

    results = await asyncio.gather(*callers[1:])
    assert [result.stream_version for result in results] == [3, 4]


async def give_up(store: EventStore, stream_id: str) -> None:
    """Append, and go away before it is sent."""
    with pytest.raises(UnavailableError, match="nothing was appended"):
        await store.append(stream_id, [SHIPPED], expected_version=ANY, timeout=0.01)


async def test_callers_that_give_up_behind_a_held_stream_leave_nothing_in_memory(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-left", [placed()], expected_version=NO_STREAM)
    async with held(connection, "order-left"):
        first = asyncio.create_task(store.append("order-left", [SHIPPED], expected_version=ANY))
        await until_waiting(connection, writers=1)
        for _ in range(5):
            await asyncio.gather(*[give_up(store, "order-left") for _ in range(5)])
        gc.collect()

        pending = [one for one in gc.get_objects() if isinstance(one, Pending)]
        to_it = [one.request.stream_id for one in pending].count("order-left")
        assert to_it <= 1 + 5  # those who went last may linger a moment
        del pending

    assert (await first).stream_version == 2


async def test_an_append_that_timed_out_while_no_connection_was_free_does_not_happen_later(dsn: str) -> None:
    async with EventStore.open(dsn, app, pool_size=2) as small:
        async with small.transaction(), small.transaction():
            patient = asyncio.create_task(small.append("order-1", [placed()], expected_version=ANY))
            impatient = [small.append(f"order-{n}", [placed()], expected_version=ANY, timeout=0.05) for n in (1, 2)]
            for answer in await asyncio.gather(*impatient, return_exceptions=True):
                assert isinstance(answer, UnavailableError)
                assert "nothing was appended" in str(answer)

        assert (await patient).stream_version == 1
        await small.append("order-2", [placed()], expected_version=NO_STREAM)
        assert await versions(small, "order-1") == [1]


async def test_a_time_out_says_whether_the_append_was_sent(store: EventStore, connection: asyncpg.Connection) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with held(connection, "order-1"):
        first = asyncio.create_task(store.append("order-1", [SHIPPED], expected_version=ANY, timeout=0.3))
        await until_waiting(connection, writers=1)
        with pytest.raises(UnavailableError, match=r"was not sent within 0\.1 s.*nothing was appended"):
            await store.append("order-1", [SHIPPED], expected_version=ANY, timeout=0.1)
        with pytest.raises(OutcomeUnknownError) as raised:
            await first

    event_ids = list(raised.value.event_ids)
    again = await store.append("order-1", [NewEvent(SHIPPED, event_id=event_ids[0])], expected_version=1)
    assert again.stream_version == 2
    assert await versions(store, "order-1") == [1, 2]


async def test_callers_wait_when_too_much_is_waiting_already(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch, dsn: str
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    monkeypatch.setattr(grouping, "WAITING_BYTES", 2000)
    async with open_store(dsn) as small, held(connection, "order-1"):
        callers = [asyncio.create_task(small.append("order-1", [SHIPPED], expected_version=ANY)) for _ in range(9)]
        await until_waiting(connection, writers=1)
        with pytest.raises(UnavailableError, match="was not sent"):
            await small.append("order-2", [placed()], expected_version=ANY, timeout=0.05)
        callers[7].cancel()
        await connection.execute("SAVEPOINT still_held")
        assert not callers[0].done()
        await connection.execute("ROLLBACK TO still_held")
        releasing = asyncio.gather(*callers, return_exceptions=True)
        await asyncio.sleep(0)
        await connection.execute("COMMIT; BEGIN")

        answers = await releasing
        assert sum(isinstance(answer, AppendResult) for answer in answers) == 8
        assert await versions(store, "order-1") == list(range(1, 10))


async def test_who_goes_on_does_not_overtake_who_waited_for_room(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setattr(grouping, "WAITING_BYTES", 3000)
    async with open_store(dsn) as small:

        async def append(*skus: str) -> None:
            for sku in skus:
                await small.append("order-1", [placed(sku=sku)], expected_version=ANY)

        large = "x" * 3000
        await asyncio.gather(append(large, "went on"), append("waited"))
        events = await small.read_stream("order-1", of=OrderPlaced).to_list()
        assert [event.data.sku for event in events] == [large, "waited", "went on"]


# --- broken connections and closing ----------------------------------------------------------------------------------


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
async def test_when_the_answer_to_a_batch_is_lost_each_append_is_resolved(
    store: EventStore, proxy: TcpProxy, when: When
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_store(proxy.dsn) as cut_store:
        proxy.cut_at(b"order-9", when)
        answers = await asyncio.gather(
            *[cut_store.append(f"order-{n}", [placed()], expected_version=NO_STREAM) for n in range(12)],
            *[cut_store.append("order-9", [SHIPPED], expected_version=version) for version in (1, 1, 2)],
            return_exceptions=True,
        )

    assert proxy.was_cut.is_set()
    refused = [number for number, answer in enumerate(answers) if isinstance(answer, WrongExpectedVersionError)]
    assert refused == [1, 13]
    assert all(isinstance(answer, AppendResult) for number, answer in enumerate(answers) if number not in refused)
    assert await versions(store, "order-9") == [1, 2, 3]
    assert len(await store.read_all().to_list()) == 14


async def test_streams_that_are_held_when_an_answer_is_lost_keep_no_other_append_from_being_resolved(
    store: EventStore, proxy: TcpProxy, connection: asyncpg.Connection
) -> None:
    """However many they are: nobody waits for a held stream on a connection that others need for their answers."""
    streams = [f"held-{number}" for number in range(6)]
    for stream_id in streams:
        await store.append(stream_id, [placed()], expected_version=NO_STREAM)
    async with open_store(proxy.dsn) as cut_store, held(connection, *streams):
        cut = proxy.cut_at(b"held-0", When.BEFORE)
        waiting = [asyncio.create_task(cut_store.append(each, [SHIPPED], expected_version=1)) for each in streams]
        async with asyncio.timeout(5):
            await asyncio.gather(
                *[cut_store.append(f"order-{n}", [placed()], expected_version=NO_STREAM) for n in range(30)]
            )
        assert cut.happened.is_set()
        assert not any(task.done() for task in waiting)
        await connection.execute("COMMIT; BEGIN")
        assert {result.stream_version for result in await asyncio.gather(*waiting)} == {2}


@pytest.mark.parametrize("pool_size", [2, 4])
async def test_in_a_small_pool_a_refused_append_and_its_neighbours_do_not_wait_for_a_held_stream(
    dsn: str, store: EventStore, connection: asyncpg.Connection, pool_size: int
) -> None:
    await connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $m$no$m$; END';
        CREATE TRIGGER refuse BEFORE INSERT ON eventstore.events
            FOR EACH ROW WHEN (NEW.stream_id = 'order-7') EXECUTE FUNCTION refuse();
    """)
    for stream_id in ("held-1", "held-2"):
        await store.append(stream_id, [placed()], expected_version=NO_STREAM)
    async with EventStore.open(dsn, app, pool_size=pool_size) as small, held(connection, "held-1", "held-2"):
        waiting = [asyncio.create_task(small.append(f"held-{n}", [SHIPPED], expected_version=1)) for n in (1, 2)]
        async with asyncio.timeout(5):
            answers = await asyncio.gather(
                *[small.append(f"order-{n}", [placed()], expected_version=NO_STREAM) for n in range(12)],
                return_exceptions=True,
            )
        assert [number for number, answer in enumerate(answers) if not isinstance(answer, AppendResult)] == [7]
        assert not any(task.done() for task in waiting)
        await connection.execute("COMMIT; BEGIN")
        assert {result.stream_version for result in await asyncio.gather(*waiting)} == {2}


async def test_a_store_that_is_closed_answers_what_is_under_way(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with open_store(dsn) as closing, held(connection, "order-1"):
        appends = [closing.append("order-1", [SHIPPED], expected_version=ANY) for _ in range(3)]
        callers = [asyncio.create_task(append) for append in appends]
        await until_waiting(connection, writers=1)

    assert [caller.result().stream_version for caller in callers] == [2, 3, 4]
    with pytest.raises(ClosedError):
        await closing.append("order-1", [SHIPPED], expected_version=ANY)


async def test_closing_has_a_deadline_and_says_what_is_unknown(
    dsn: str, store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_store, "DRAIN_SECONDS", 0.1)
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with held(connection, "order-1"):
        async with open_store(dsn) as closing:
            sent = asyncio.create_task(closing.append("order-1", [SHIPPED], expected_version=ANY))
            await until_waiting(connection, writers=1)
            behind = asyncio.create_task(closing.append("order-1", [SHIPPED], expected_version=ANY))
            await asyncio.sleep(0)

        with pytest.raises(OutcomeUnknownError):
            await sent
        with pytest.raises(ClosedError):
            await behind


async def test_when_closing_is_interrupted_what_was_sent_is_unknown_and_not_denied(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    opened: asyncio.Future[EventStore] = asyncio.get_running_loop().create_future()

    async def service() -> None:
        async with open_store(dsn) as closing:
            opened.set_result(closing)
            await asyncio.Event().wait()

    running = asyncio.create_task(service())
    closing = await opened
    async with held(connection, "order-1"):
        sent = asyncio.create_task(closing.append("order-1", [SHIPPED], expected_version=ANY))
        await until_waiting(connection, writers=1)
        for _ in range(2):  # the second time while it waits for the answer
            running.cancel()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        await asyncio.wait([running])

    with pytest.raises(OutcomeUnknownError):
        await sent


async def test_an_append_that_comes_while_the_lanes_give_their_connections_back_is_sent(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    giving_back: list[asyncpg.Connection] = []
    both, go_on = asyncio.Event(), asyncio.Event()
    release = asyncpg.Pool.release

    async def slowly(pool: asyncpg.Pool, connection: asyncpg.Connection, **options: Any) -> None:
        giving_back.append(connection)
        if len(giving_back) == LANES:
            both.set()
        await go_on.wait()
        await release(pool, connection, **options)

    monkeypatch.setattr(asyncpg.Pool, "release", slowly)
    await asyncio.gather(*[store.append(f"order-{n}", [placed()], expected_version=NO_STREAM) for n in range(LANES)])
    await both.wait()
    late = asyncio.create_task(store.append("order-late", [placed()], expected_version=NO_STREAM))
    await asyncio.sleep(0)
    go_on.set()

    async with asyncio.timeout(5):
        assert (await late).stream_version == 1
