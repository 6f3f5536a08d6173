"""The lost answer of a COMMIT is resolved, not guessed: whether the server saw it, finished it, or is still at it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from uuid import UUID

import asyncpg
import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.db import Database
from eventstore.errors import (
    CommitOutcomeUnknownError,
    OutcomeUnknownError,
    UnavailableError,
)
from eventstore.store import commit
from fixtures.lost_answers import REFUSALS, hold_commits_up, until_waiting, versions
from fixtures.shop import SHIPPED, placed
from fixtures.tcp_proxy import TcpProxy, When


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
