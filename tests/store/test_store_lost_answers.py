"""The lost answer of an append is resolved, not guessed: whether the server saw it, finished it, or is still at it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, AppendResult, EventStore, ExpectedVersion, NewEvent
from eventstore.db import ConnectionLostError
from eventstore.errors import (
    ConfigurationError,
    OutcomeUnknownError,
    UnavailableError,
    WrongExpectedVersionError,
)
from eventstore.store import AppendOutcome, AppendRequest, appending, beside
from eventstore.store.appending import StreamHeldError
from eventstore.store.postgres import PostgresLog
from fixtures.holding import closed_gate, prepare_holding
from fixtures.lost_answers import REFUSALS, until_waiting, versions
from fixtures.shop import SHIPPED, NoteTaken, app, placed
from fixtures.tcp_proxy import TcpProxy, When


@pytest.mark.parametrize("expected", [NO_STREAM, ANY])
@pytest.mark.parametrize(("when", "repeated"), [(When.BEFORE, False), (When.AFTER, True)])
async def test_an_append_whose_answer_is_lost_happens_exactly_once(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, when: When, expected: ExpectedVersion, *, repeated: bool
) -> None:
    proxy.cut_at(b"order-1", when)

    result = await cut_store.append("order-1", [placed(), SHIPPED], expected_version=expected)

    assert proxy.was_cut.is_set()
    assert (result.first_version, result.stream_version, result.repeated) == (1, 2, repeated)
    events = await store.read_stream("order-1").to_list()
    assert [event.event_id for event in events] == list(result.event_ids)
    assert events[-1].position == result.position


async def test_an_append_that_others_overtook_while_its_answer_was_lost_is_a_conflict(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    proxy.cut_at(b"order-1", When.BEFORE)
    proxy.refuse_after_cut()
    appending_ = asyncio.create_task(cut_store.append("order-1", [placed()], expected_version=NO_STREAM))
    await proxy.was_cut.wait()
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    proxy.accept()

    with pytest.raises(WrongExpectedVersionError):
        await appending_
    assert await versions(store) == [1]


async def test_a_repetition_waits_for_the_old_call_that_is_still_alive_on_the_server(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, connection: asyncpg.Connection
) -> None:
    """Merely looking for the ids would find nothing, append again, and fail or double when the old call commits."""
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    holder = connection.transaction()
    await holder.start()
    await connection.execute("SELECT FROM eventstore.streams WHERE stream_id = 'order-1' FOR NO KEY UPDATE")
    proxy.cut_at(b"order-1", When.WORKING, pass_first=1)  # the first call hears that the stream is busy
    proxy.refuse_after_cut()
    appending_ = asyncio.create_task(cut_store.append("order-1", [SHIPPED], expected_version=1))
    await proxy.was_cut.wait()
    await until_waiting(store, writers=1)  # the old call is first in line
    proxy.accept()
    await until_waiting(store, writers=2)
    await holder.rollback()

    result = await appending_

    assert (result.stream_version, result.repeated) == (2, True)
    assert await versions(store) == [1, 2]


@pytest.mark.parametrize("stream_exists", [False, True])
async def test_without_a_connection_to_wait_on_a_repetition_comes_again_until_the_old_call_has_ended(
    store: EventStore,
    proxy: TcpProxy,
    connection: asyncpg.Connection,
    monkeypatch: pytest.MonkeyPatch,
    *,
    stream_exists: bool,
) -> None:
    """The old call holds the stream that it appends to or begins; while it does, the answer is `busy`, not a guess."""
    held = asyncio.Queue[None]()
    once = appending.append_once

    async def observed(*args: Any, **options: Any) -> AppendResult:
        try:
            return await once(*args, **options)
        except StreamHeldError:
            held.put_nowait(None)
            raise

    monkeypatch.setattr(beside, "append_once", observed)
    await prepare_holding(proxy.dsn)
    if stream_exists:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with EventStore.open(proxy.dsn, app, pool_size=2) as small:
        async with closed_gate(connection, "gate"):
            proxy.cut_at(b"gate/", When.WORKING)
            appending_ = asyncio.create_task(small.append("order-1", [NoteTaken(text="gate/1")], expected_version=ANY))
            for _ in range(3):
                await held.get()
            assert not appending_.done()
        result = await appending_

    assert (result.stream_version, result.repeated) == (1 + stream_exists, True)
    assert await versions(store) == list(range(1, result.stream_version + 1))


async def test_a_session_that_is_ended_by_the_administrator_loses_no_append(
    cut_store: EventStore, store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with connection.transaction():
        await connection.execute("SELECT FROM eventstore.streams WHERE stream_id = 'order-1' FOR NO KEY UPDATE")
        appending_ = asyncio.create_task(cut_store.append("order-1", [SHIPPED], expected_version=1))
        (pid,) = await until_waiting(store, writers=1)
        await connection.execute("SELECT pg_terminate_backend($1)", pid)
        await until_waiting(store, writers=1, but=pid)

    assert (await appending_).stream_version == 2
    assert await versions(store) == [1, 2]


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
async def test_an_append_that_nobody_can_answer_for_says_so_and_can_be_repeated_with_its_ids(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, when: When
) -> None:
    proxy.cut_at(b"order-1", when)
    proxy.refuse_after_cut()

    with pytest.raises(OutcomeUnknownError) as raised:
        await cut_store.append("order-1", [placed()], expected_version=NO_STREAM)

    error = raised.value
    assert error.retryable
    assert error.stream_id == "order-1"
    (event_id,) = error.event_ids
    again = await store.append("order-1", [NewEvent(placed(), event_id=event_id)], expected_version=NO_STREAM)
    assert (again.stream_version, again.repeated) == (1, when is When.AFTER)
    assert await versions(store) == [1]


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
async def test_only_an_answer_of_the_log_ends_the_search_for_an_appends_outcome(
    store: EventStore, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    append = PostgresLog.append
    to_come = [ConnectionLostError("the answer to what was carried out"), refusal, refusal]

    async def refused(log: PostgresLog, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        if to_come[1:] == [refusal, refusal]:
            await append(log, requests, wait=wait)
        if to_come:
            raise to_come.pop(0)
        return await append(log, requests, wait=wait)

    monkeypatch.setattr(PostgresLog, "append", refused)
    result = await store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert (result.stream_version, result.repeated) == (1, True)
    assert await versions(store) == [1]


@pytest.mark.usefixtures("impatient")
async def test_who_is_let_in_no_longer_is_told_that_the_outcome_is_unknown(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = PostgresLog.append
    sent: list[AppendRequest] = []

    async def refused(log: PostgresLog, requests: Sequence[AppendRequest], *, wait: bool) -> list[AppendOutcome]:
        if sent:
            raise ConfigurationError("PostgreSQL refused user or password")
        sent.extend(requests)
        await append(log, requests, wait=wait)
        raise ConnectionLostError("its answer")

    monkeypatch.setattr(PostgresLog, "append", refused)
    with pytest.raises(OutcomeUnknownError) as raised:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert raised.value.event_ids == (sent[0].events[0].event_id,)
    assert await versions(store) == [1]


async def test_connections_that_broke_while_idle_lose_no_append(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    proxy.cut_all()

    await cut_store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert await versions(store) == [1]


async def test_an_append_that_cannot_be_sent_in_its_time_does_not_happen_later(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    proxy.refuse()
    with pytest.raises(UnavailableError):
        await cut_store.stream_info("order-1")  # by now the broken connections have been noticed
    with pytest.raises(UnavailableError):
        await cut_store.append("order-1", [placed()], expected_version=NO_STREAM, timeout=0.2)
    proxy.accept()

    await cut_store.append("order-2", [placed()], expected_version=NO_STREAM)
    assert await versions(store) == []


async def test_a_timeout_after_sending_is_an_unknown_outcome_with_the_ids(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with connection.transaction():
        await connection.execute("SELECT FROM eventstore.streams WHERE stream_id = 'order-1' FOR NO KEY UPDATE")
        with pytest.raises(OutcomeUnknownError, match=r"0\.1 s") as raised:
            await store.append("order-1", [SHIPPED], expected_version=1, timeout=0.1)

    (event_id,) = raised.value.event_ids
    again = await store.append("order-1", [NewEvent(SHIPPED, event_id=event_id)], expected_version=1)
    assert again.stream_version == 2
    assert await versions(store) == [1, 2]


async def test_cancelled_appends_leave_the_store_usable(store: EventStore, connection: asyncpg.Connection) -> None:
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with connection.transaction():
        await connection.execute("SELECT FROM eventstore.streams WHERE stream_id = 'order-1' FOR NO KEY UPDATE")
        waiting = [asyncio.create_task(store.append("order-1", [SHIPPED], expected_version=ANY)) for _ in range(9)]
        await until_waiting(store, writers=1)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    await store.append("order-2", [placed()], expected_version=NO_STREAM)
    assert await versions(store, "order-2") == [1]
