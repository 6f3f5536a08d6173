"""Group commit: appends that wait at the same time share a call and a commit, and nothing else."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import Context
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore, NewEvent
from eventstore.bulk import ImportedEvent, import_events
from eventstore.clock import uuid7
from eventstore.codec import Codec
from eventstore.errors import (
    EventStoreError,
    IdempotencyError,
    WrongExpectedVersionError,
)
from eventstore.events import AppendResult
from eventstore.metadata import Metadata, current_metadata, metadata
from eventstore.store import AppendOutcome, AppendRequest
from eventstore.store.grouping import GroupingAppender
from eventstore.store.postgres import PostgresLog
from eventstore.testing import FakeClock
from fixtures.group_commit import commits, held, until_waiting, versions
from fixtures.shop import SHIPPED, app, placed


class NotingLog:
    """A log of one connection that answers at once, and notes what it was asked to append."""

    def __init__(self) -> None:
        self.appended: list[str] = []

    @asynccontextmanager
    async def pinned(self) -> AsyncIterator[NotingLog]:
        yield self

    async def append(self, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        assert not wait
        self.appended += [request.stream_id for request in requests]
        return [AppendOutcome("appended", 1, len(self.appended)) for _ in requests]


class Timers(NamedTuple):
    """What the loop was asked to do later, and what of it was done."""

    set: list[object]
    rung: list[object]


def note_timers(monkeypatch: pytest.MonkeyPatch) -> Timers:
    """Note the loop's timers from now on; `sleep`, `timeout` and `call_later` all come down to `call_at`."""
    timers = Timers([], [])
    loop = asyncio.get_running_loop()
    call_at = loop.call_at

    def noting(
        when: float, callback: Callable[..., object], *args: object, context: Context | None = None
    ) -> asyncio.TimerHandle:
        def ring() -> None:
            timers.rung.append(callback)
            callback(*args)

        timers.set.append(callback)
        return call_at(when, ring, context=context)

    monkeypatch.setattr(loop, "call_at", noting)
    return timers


# --- what is shared, and what is not --------------------------------------------------------------------------------


async def test_appends_that_wait_at_the_same_time_share_a_commit(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await asyncio.gather(
        *[store.append(f"order-{number}", [placed(), SHIPPED], expected_version=NO_STREAM) for number in range(100)]
    )

    assert await commits(connection) < 10


async def test_an_append_on_its_own_is_sent_at_once(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No clock has any part in it: on the way to the log no timer rings that something might have waited for."""
    await store.append("order-1", [placed()], expected_version=NO_STREAM)  # from now on there is a connection
    rung = note_timers(monkeypatch).rung
    append, rung_before_log = PostgresLog.append, list[int]()

    async def noting(log: PostgresLog, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        rung_before_log.append(len(rung))
        return await append(log, requests, wait=wait)

    monkeypatch.setattr(PostgresLog, "append", noting)
    for version in range(1, 5):
        await store._appender.drain(10)  # the lane that has just answered is free again
        rung.clear()
        await store.append("order-1", [placed()], expected_version=version)

    assert rung_before_log == [0] * 4
    assert await commits(connection) == 5


async def test_an_append_that_finds_a_free_lane_waits_for_no_timer_and_no_company(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two turns of the loop bring it to the log: the caller's own and the lane's."""
    log = NotingLog()
    codec = Codec(app.events, clock=FakeClock(), new_id=uuid7, max_payload=1000)
    appender = GroupingAppender(log, codec, connections=2)  # type: ignore[arg-type]  # as much of a log as it needs
    timers = note_timers(monkeypatch)
    for number in range(5):
        event = codec.encode(placed(), Metadata())
        request = AppendRequest(f"order-{number}", NO_STREAM, 0, [event], look_up_ids=False)
        append = asyncio.create_task(appender.append(request, None))
        for _ in range(2):
            await asyncio.sleep(0)

        assert log.appended == [f"order-{each}" for each in range(number + 1)]
        assert timers.set == []
        await append
        await appender.drain(10)  # the lane is free again; this wait has a time-out, which is a timer of its own
        timers.set.clear()


async def test_each_append_of_a_batch_has_its_own_answer(store: EventStore) -> None:
    await store.append("order-old", [placed()], expected_version=NO_STREAM)

    answers = await asyncio.gather(
        store.append("order-new", [placed(), SHIPPED], expected_version=NO_STREAM),
        store.append("order-old", [SHIPPED], expected_version=0),
        store.append("order-old", [SHIPPED], expected_version=1),
        store.append("order-old", [SHIPPED], expected_version=1),
        store.append("order-none", [SHIPPED], expected_version=3),
        store.append("order-old", [SHIPPED], expected_version=ANY),
        return_exceptions=True,
    )

    new, late, second, beaten, absent, last = answers
    assert isinstance(new, AppendResult)
    assert isinstance(second, AppendResult)
    assert isinstance(last, AppendResult)
    assert (new.first_version, new.stream_version, second.stream_version, last.stream_version) == (1, 2, 2, 3)
    for refused, actual in ((late, 1), (beaten, 2), (absent, 0)):
        assert isinstance(refused, WrongExpectedVersionError)
        assert refused.actual == actual
    for result in (new, second, last):
        at = result.stream_version
        (event,) = await store.read_stream(result.stream_id, from_version=at, to_version=at).to_list()
        assert event.position == result.position
        assert event.event_id == result.event_ids[-1]


async def test_an_append_that_the_server_refuses_fails_nobody_else(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await connection.execute("""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION $m$no$m$; END';
        CREATE TRIGGER refuse BEFORE INSERT ON eventstore.events
            FOR EACH ROW WHEN (NEW.stream_id = 'order-7') EXECUTE FUNCTION refuse();
    """)

    answers = await asyncio.gather(
        *[store.append(f"order-{number}", [placed()], expected_version=NO_STREAM) for number in range(20)],
        return_exceptions=True,
    )

    assert [number for number, answer in enumerate(answers) if not isinstance(answer, AppendResult)] == [7]
    assert isinstance(answers[7], EventStoreError)
    assert len(await store.read_all().to_list()) == 19


async def test_an_id_that_is_given_out_twice_fails_only_the_append_that_has_it(dsn: str) -> None:
    given: list[UUID] = []

    def clumsy_id() -> UUID:
        given.append(given[3] if len(given) == 8 else uuid7())
        return given[-1]

    async with EventStore.open(dsn, app, new_id=clumsy_id) as store:
        answers = await asyncio.gather(
            *[store.append("order-1", [placed()], expected_version=ANY) for _ in range(20)], return_exceptions=True
        )

        assert [type(answer).__name__ for answer in answers].count("AppendResult") == 19
        assert isinstance(answers[8], IdempotencyError)
        assert await versions(store, "order-1") == list(range(1, 20))


async def test_a_stream_recorded_in_the_future_keeps_its_time_to_itself(store: EventStore) -> None:
    """As after a clock that was wrong, or an import: its own times never fall, its neighbours' are not lifted."""
    future = datetime(2099, 1, 1, tzinfo=UTC)
    await import_events(store, [ImportedEvent("order-5", placed(), recorded_at=future)], name="skewed")

    await asyncio.gather(
        *[store.append(f"order-{number}", [placed(), SHIPPED], expected_version=ANY) for number in range(10)]
    )

    assert {event.stream_id async for event in store.read_all() if event.recorded_at >= future} == {"order-5"}
    assert [event.recorded_at for event in await store.read_stream("order-5").to_list()] == [future] * 3


# --- streams that others hold ----------------------------------------------------------------------------------------


async def test_a_stream_that_another_transaction_holds_stalls_nobody_else(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-held", [placed()], expected_version=NO_STREAM)
    async with held(connection, "order-held"):
        waiting = [asyncio.create_task(store.append("order-held", [SHIPPED], expected_version=ANY)) for _ in range(3)]
        async with asyncio.timeout(10):
            await asyncio.gather(*[store.append(f"order-{n}", [placed()], expected_version=0) for n in range(50)])
        assert not any(task.done() for task in waiting)

    assert [result.stream_version for result in await asyncio.gather(*waiting)] == [2, 3, 4]


async def test_a_stream_that_another_transaction_is_beginning_stalls_nobody_else(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    async with connection.transaction():
        await connection.execute("INSERT INTO eventstore.streams (stream_id) VALUES ('order-new')")
        waiting = asyncio.create_task(store.append("order-new", [placed()], expected_version=NO_STREAM))
        async with asyncio.timeout(10):
            await asyncio.gather(*[store.append(f"order-{n}", [placed()], expected_version=0) for n in range(50)])
        assert not waiting.done()

    assert (await waiting).stream_version == 1


async def test_what_waits_behind_an_append_to_a_new_stream_waits_with_it_while_a_stranger_begins_another(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """While somebody begins one stream, a call begins none: its second append to a new one is not refused for that."""
    async with connection.transaction():
        await connection.execute("INSERT INTO eventstore.streams (stream_id) VALUES ('order-his')")
        his = asyncio.create_task(store.append("order-his", [placed()], expected_version=NO_STREAM))
        async with asyncio.timeout(10):
            answers = await asyncio.gather(
                store.append("order-new", [placed()], expected_version=NO_STREAM),
                store.append("order-new", [SHIPPED], expected_version=1),
                store.append("order-new", [SHIPPED], expected_version=1),
                store.append("order-none", [SHIPPED], expected_version=1),
                return_exceptions=True,
            )

    assert [answer.stream_version for answer in answers if isinstance(answer, AppendResult)] == [1, 2]
    refused = [answer.actual for answer in answers if isinstance(answer, WrongExpectedVersionError)]
    assert refused == [2, 0]
    assert (await his).stream_version == 1


async def test_more_held_streams_than_connections_stall_nobody_else(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    streams = [f"held-{number}" for number in range(30)]
    for stream_id in streams:
        await store.append(stream_id, [placed()], expected_version=NO_STREAM)
    async with held(connection, *streams):
        waiting = [asyncio.create_task(store.append(each, [SHIPPED], expected_version=1)) for each in streams]
        async with asyncio.timeout(20):
            for number in range(30):
                await store.append(f"order-{number}", [placed()], expected_version=NO_STREAM)
        assert not any(task.done() for task in waiting)

    assert {result.stream_version for result in await asyncio.gather(*waiting)} == {2}


async def test_in_the_smallest_pool_a_held_stream_stalls_nobody_else(dsn: str, store: EventStore) -> None:
    """Not even the owner of the transaction that holds it, who has the other connection."""
    await store.append("order-held", [placed()], expected_version=NO_STREAM)
    async with EventStore.open(dsn, app, pool_size=2) as small:
        async with small.transaction() as tx:
            await tx.append("order-held", [SHIPPED], expected_version=1)
            waiting = asyncio.ensure_future(small.append("order-held", [SHIPPED], expected_version=ANY))
            async with asyncio.timeout(5):
                for number in range(5):
                    await small.append(f"order-{number}", [placed()], expected_version=NO_STREAM)
                    assert await versions(small, "order-held") == [1]
            assert not waiting.done()

        assert (await waiting).stream_version == 3


@pytest.mark.parametrize("pool_size", [2, 3])
async def test_in_a_small_pool_appends_without_end_keep_nobody_from_reading_or_repeating(
    dsn: str, pool_size: int
) -> None:
    async with EventStore.open(dsn, app, pool_size=pool_size, pool_timeout=2.0) as small:
        has_read = asyncio.Event()

        async def write(number: int) -> int:
            version = 0
            while not has_read.is_set():
                version = (await small.append(f"order-{number}", [placed()], expected_version=ANY)).stream_version
            return version

        chosen = [NewEvent(placed(), event_id=uuid7())]
        async with asyncio.TaskGroup() as group:
            writing = [group.create_task(write(number)) for number in range(16)]
            try:
                for repeated in (False, True):
                    assert await small.stream_info("order-none") is None
                    assert (await small.append("order-0x", chosen, expected_version=ANY)).repeated is repeated
            finally:
                has_read.set()

        assert min(task.result() for task in writing) > 0


# --- order and fairness ----------------------------------------------------------------------------------------------


async def test_appends_to_one_stream_never_overtake_each_other(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """Not even when a stream is held for a while, is new, or is asked for ids on the way."""
    called: dict[str, list[UUID]] = defaultdict(list)

    async def append(number: int) -> None:
        stream_id, event_id = f"order-{number % 7}", uuid7()
        called[stream_id].append(event_id)
        chosen = NewEvent(placed(), event_id=event_id)
        await store.append(stream_id, [chosen], expected_version=ANY)
        if number < 300 and number % 5 == 0:
            await append(number + 700)

    await store.append("order-0", [NewEvent(placed(), event_id=(first := uuid7()))], expected_version=NO_STREAM)
    called["order-0"].append(first)
    async with held(connection, "order-0"):
        appending = asyncio.gather(*[append(number) for number in range(300)])
        await until_waiting(connection, writers=1)
    await appending

    for stream_id, ids in called.items():
        assert [event.event_id async for event in store.read_stream(stream_id)] == ids


async def test_nobody_starves_among_callers_that_expect_versions_and_try_again(store: EventStore) -> None:
    wins: Counter[int] = Counter()
    await store.append("order-1", [placed()], expected_version=NO_STREAM)

    async def caller(number: int) -> None:
        version = 1
        while wins.total() < 400:
            try:
                result = await store.append("order-1", [SHIPPED], expected_version=version)
            except WrongExpectedVersionError as conflict:
                version = conflict.actual
            else:
                version = result.stream_version
                wins[number] += 1

    await asyncio.gather(*[caller(number) for number in range(8)])

    assert min(wins[number] for number in range(8)) >= 400 / 8 / 2


# --- context ---------------------------------------------------------------------------------------------------------


async def test_each_append_of_a_batch_carries_its_own_callers_metadata(store: EventStore) -> None:
    async def append(number: int) -> None:
        with metadata(correlation_id=f"call-{number}"):
            await store.append(f"order-{number}", [placed()], expected_version=NO_STREAM)

    await asyncio.gather(*[append(number) for number in range(20)])

    for number in range(20):
        (event,) = await store.read_stream(f"order-{number}").to_list()
        assert event.correlation_id == f"call-{number}"


async def test_no_callers_context_reaches_the_shared_work(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    append = PostgresLog.append

    async def noting(log: PostgresLog, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        seen.append(current_metadata().correlation_id)
        return await append(log, requests, wait=wait)

    monkeypatch.setattr(PostgresLog, "append", noting)
    with metadata(correlation_id="somebody"):
        await store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert seen == [None]
