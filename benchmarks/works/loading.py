"""Loading aggregates: by replay, and with a snapshot."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import ours, raw
from benchmarks.context import asking
from benchmarks.domain import Account, app
from benchmarks.results import OURS, Row
from eventstore import EventStore
from eventstore.snapshots import take_snapshot

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    import asyncpg

    from benchmarks.context import Context
    from benchmarks.peers.client import PeerProcess
    from benchmarks.rounds import Subject

BEHIND: Final = 50
SHORT: Final = 100
RAW: Final = "asyncpg, fetch all columns and validate"
RAW_FOLD: Final = "asyncpg, fetch what folding needs, validate and fold"


async def by_replay(context: Context) -> Row:
    """Measure loading a long aggregate against the faster of two ways by hand to the same rows, and the peers."""
    length = context.sizes.long_stream
    row = Row("load", f"load an aggregate of {length:,} events by replay", "events/s", lower_is_better=False)

    def loading(load: Callable[[], Awaitable[int]]) -> Subject:
        async def subject() -> float:
            began, events = time.perf_counter(), 0
            while time.perf_counter() < began + context.sizes.seconds / 2:
                events += await load()
            return events / (time.perf_counter() - began)

        return subject

    async def ready(peer: PeerProcess) -> None:
        await peer.ask("fill", streams=1, events=length)

    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(dsn, 1))
        await ours.fill_stream(store, "account-long", range(length))
        peers = await stack.enter_async_context(context.peers(row, ready))
        subjects = {
            OURS: loading(lambda: ours.load(store, "long")),
            RAW: loading(lambda: raw.load_stream(pool, "account-long")),
            RAW_FOLD: loading(lambda: raw.fold_stream(pool, "account-long")),
        }
        for name, peer in peers.items():
            subjects[name] = asking(peer, "loads", seconds=context.sizes.seconds / 2)
        await context.run(row, subjects)
    best = row.best([RAW, RAW_FOLD])
    row.compare("over the faster of both ways by hand", "raw fetch and validate", OURS, best, at_least=0.8, stretch=1.0)
    row.compare_with_best(OURS, list(peers), at_least=1.5)
    row.notes.append(
        "Aggregates fold their events. By hand there are two ways, and the ratio is over the one with the better "
        f"median, here: {best}. One fetches all columns at once, keeps the validated events and folds nothing; the "
        "other fetches at once the four columns that folding needs (version, type, schema version and data), and folds "
        "each event as it is validated. Both validate with the same models."
    )
    return row


async def with_snapshot(context: Context) -> Row:
    """Measure loading with a snapshot a little behind the head: long histories against short ones."""
    length = context.sizes.long_stream
    row = Row("snapshot", f"load with a snapshot {BEHIND} events behind the head", "µs", lower_is_better=True)
    long_name, short_name = f"a history of {length:,} events", f"a history of {SHORT} events"
    async with context.databases.fresh() as dsn, raw.pool(dsn, 2) as pool, EventStore.open(pool, app) as store:
        for key, events in (("long", length), ("short", SHORT)):
            await ours.fill_stream(store, f"account-{key}", range(events - BEHIND))
            await take_snapshot(store, Account.shape, f"account-{key}")
            await ours.fill_stream(store, f"account-{key}", range(events - BEHIND, events))

        def loading(key: str) -> Subject:
            async def subject() -> float:
                began, loads = time.perf_counter(), 0
                while time.perf_counter() < began + context.sizes.seconds / 2:
                    await ours.load(store, key)
                    loads += 1
                return (time.perf_counter() - began) / loads * 1e6

            return subject

        await context.run(row, {long_name: loading("long"), short_name: loading("short")})
        trips = await _round_trips(pool, lambda: ours.load(store, "long"))
    row.compare(f"{long_name} over {short_name}", "long over short history", long_name, short_name, at_most=1.3)
    row.judge("round trips of a load", "round trips", [float(trips)], at_most=2)
    return row


async def _round_trips(pool: asyncpg.Pool, work: Callable[[], Awaitable[object]]) -> int:
    """Count the statements that work sends, on whichever connections of the pool; each is one round trip."""
    seen: list[str] = []

    def note(record: asyncpg.connection.LoggedQuery) -> None:
        seen.append(record.query)

    async with AsyncExitStack() as stack:
        connections = [await stack.enter_async_context(pool.acquire()) for _ in range(pool.get_size())]
        for connection in connections:
            connection.add_query_logger(note)
    await work()
    return len(seen)
