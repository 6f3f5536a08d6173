"""A lost answer is resolved, not guessed: whether the server saw the call, finished it, or is still at it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, AppendResult, EventStore, ExpectedVersion, NewEvent
from eventstore.db import ConnectionLostError, Database
from eventstore.errors import (
    CommitOutcomeUnknownError,
    ConfigurationError,
    EventStoreError,
    OutcomeUnknownError,
    UnavailableError,
    WrongExpectedVersionError,
)
from eventstore.store import AppendOutcome, AppendRequest, appending, beside, commit
from eventstore.store.appending import StreamHeldError
from eventstore.store.postgres import PostgresLog
from fixtures.holding import closed_gate, prepare_holding
from fixtures.shop import SHIPPED, NoteTaken, app, placed
from fixtures.stores import open_store
from fixtures.tcp_proxy import TcpProxy, When


@pytest.fixture
async def cut_store(proxy: TcpProxy) -> AsyncIterator[EventStore]:
    """A store that reaches its database through the proxy."""
    async with open_store(proxy.dsn) as store:
        yield store


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the store give up asking soon."""
    for module in (appending, commit):
        monkeypatch.setattr(module, "RESOLVE_SECONDS", 0.2)


async def versions(store: EventStore, stream_id: str = "order-1") -> list[int]:
    return [event.stream_version async for event in store.read_stream(stream_id)]


# --- an append -----------------------------------------------------------------------------------------------------


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


REFUSALS = [
    ConfigurationError("PostgreSQL refused user or password"),
    EventStoreError("PostgreSQL refused the statement"),
    RuntimeError("a defect"),
]
"""What says nothing of a call that was sent before."""


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


# --- a transaction -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_exists", [False, True])
async def test_a_transaction_whose_commit_arrived_returns(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, *, stream_exists: bool
) -> None:
    if stream_exists:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
    async with cut_store.transaction() as tx:
        result = await tx.append("order-1", [SHIPPED], expected_version=ANY)
        proxy.cut_at(b"COMMIT", When.AFTER)

    assert proxy.was_cut.is_set()
    assert await versions(store) == list(range(1, result.stream_version + 1))


@pytest.mark.parametrize("refusal", REFUSALS, ids=repr)
async def test_only_an_answer_of_the_log_ends_the_search_for_a_commits_outcome(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    ask = commit._any_is_there
    to_come = [refusal, refusal]

    async def refused(database: Database, written: Mapping[str, Sequence[UUID]]) -> bool:
        if to_come:
            raise to_come.pop()
        return await ask(database, written)

    monkeypatch.setattr(commit, "_any_is_there", refused)
    async with cut_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)
        proxy.cut_at(b"COMMIT", When.AFTER)

    assert not to_come
    assert await versions(store) == [1]


@pytest.mark.parametrize("stream_exists", [False, True])
async def test_a_transaction_whose_commit_did_not_arrive_raises(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, *, stream_exists: bool
) -> None:
    if stream_exists:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)
    with pytest.raises(UnavailableError, match="rolled back"):
        async with cut_store.transaction() as tx:
            await tx.append("order-1", [SHIPPED], expected_version=ANY)
            proxy.cut_at(b"COMMIT", When.BEFORE)

    assert await versions(store) == ([1] if stream_exists else [])
    await cut_store.append("order-1", [SHIPPED], expected_version=ANY)


@pytest.mark.parametrize("stream_exists", [False, True])
async def test_a_transaction_that_is_still_committing_is_waited_for(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, connection: asyncpg.Connection, *, stream_exists: bool
) -> None:
    """A deferred trigger holds the COMMIT up on the server, while the client is cut and asks on a new connection."""
    await hold_commits_up(connection)
    if stream_exists:
        await store.append("order-1", [placed()], expected_version=NO_STREAM)

    async def work() -> None:
        async with cut_store.transaction() as tx:
            await tx.append("order-1", [SHIPPED], expected_version=ANY)
            await tx.connection.execute("INSERT INTO slow VALUES (1)")
            proxy.cut_at(b"COMMIT", When.WORKING)

    await connection.execute("SELECT pg_advisory_lock(4711)")
    working = asyncio.create_task(work())
    await proxy.was_cut.wait()
    await until_waiting(store, writers=2)
    assert await versions(store) == ([1] if stream_exists else [])
    await connection.execute("SELECT pg_advisory_unlock(4711)")
    await working

    assert await versions(store) == ([1, 2] if stream_exists else [1])


@pytest.mark.parametrize(("when", "committed"), [(When.AFTER, True), (When.BEFORE, False)])
async def test_what_a_savepoint_has_undone_says_nothing_of_the_transactions_outcome(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy, when: When, *, committed: bool
) -> None:
    """Its stream is not there although the transaction committed: one of the others is."""
    raised = None
    try:
        async with cut_store.transaction() as tx:
            with pytest.raises(ZeroDivisionError):
                async with tx.connection.transaction():
                    await tx.append("order-1", [placed()], expected_version=NO_STREAM)
                    raise ZeroDivisionError
            await tx.append("order-2", [placed()], expected_version=NO_STREAM)
            proxy.cut_at(b"COMMIT", when)
    except UnavailableError as error:
        raised = error

    assert (raised is None) == committed
    assert await versions(store, "order-1") == []
    assert await versions(store, "order-2") == ([1] if committed else [])


async def test_a_connection_that_breaks_after_its_transaction_has_committed_is_no_failure(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    """Undoing the caller's session settings is all that is left to do by then."""
    cut = proxy.cut_at(b"RESET ALL", When.BEFORE)
    async with cut_store.transaction() as tx:
        await tx.append("order-1", [placed()], expected_version=NO_STREAM)

    assert cut.happened.is_set()
    assert await versions(store) == [1]


async def test_a_transaction_without_events_whose_commit_is_lost_says_that_nobody_knows(
    cut_store: EventStore, proxy: TcpProxy
) -> None:
    with pytest.raises(CommitOutcomeUnknownError) as raised:
        async with cut_store.transaction() as tx:
            await tx.connection.execute("CREATE TABLE mine ()")
            proxy.cut_at(b"COMMIT", When.AFTER)
    assert not raised.value.retryable


@pytest.mark.usefixtures("impatient")
async def test_a_transaction_that_nobody_can_answer_for_names_its_ids(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    with pytest.raises(OutcomeUnknownError) as raised:
        async with cut_store.transaction() as tx:
            result = await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            proxy.cut_at(b"COMMIT", When.AFTER)
            proxy.refuse_after_cut()

    assert raised.value.event_ids == result.event_ids
    assert await versions(store) == [1]


async def test_a_transaction_cut_before_its_commit_did_not_happen(
    cut_store: EventStore, store: EventStore, proxy: TcpProxy
) -> None:
    with pytest.raises(UnavailableError) as raised:
        async with cut_store.transaction() as tx:
            await tx.append("order-1", [placed()], expected_version=NO_STREAM)
            proxy.cut_all()
            await tx.append("order-1", [SHIPPED], expected_version=1)

    assert raised.value.retryable
    assert await versions(store) == []
    await cut_store.append("order-1", [placed()], expected_version=NO_STREAM)


async def test_the_blocks_own_error_wins_over_a_cut_connection(cut_store: EventStore, proxy: TcpProxy) -> None:
    with pytest.raises(ZeroDivisionError):
        async with cut_store.transaction():
            proxy.cut_all()
            raise ZeroDivisionError


# --- what the tests share ------------------------------------------------------------------------------------------


async def until_waiting(store: EventStore, *, writers: int, but: int | None = None) -> list[int]:
    """Return the processes of sessions that wait for a lock in the store's database, once there are so many.

    It polls: PostgreSQL tells nobody that a session has begun to wait, it only answers when it is asked.
    """
    async with asyncio.timeout(10), store.database.connection() as connection:
        while True:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
                " AND pid IS DISTINCT FROM $1",
                but,
            )
            if len(rows) == writers:
                return [row[0] for row in rows]
            await asyncio.sleep(0.005)


async def hold_commits_up(connection: asyncpg.Connection) -> None:
    """Make a table whose writers wait for the advisory lock 4711 when they commit."""
    await connection.execute("""
        CREATE TABLE slow (n int);
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
            'BEGIN PERFORM pg_advisory_xact_lock(4711); RETURN NULL; END';
        CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON slow DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION wait();
    """)
