"""Reading the log as typed objects, how fast and in how much memory."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Final

from benchmarks import memory, ours, raw, server
from benchmarks.context import asking
from benchmarks.filling import copy_streams
from benchmarks.results import OURS, Row

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from benchmarks.context import Context
    from benchmarks.peers.client import PeerProcess
    from benchmarks.rounds import Subject

RAW: Final = f"asyncpg, fetch {raw.PAGE:,} at a time and validate"
STREAMS_OF_PEERS: Final = 50


async def measure(context: Context) -> Row:
    """Measure reading a log against fetching and validating the same rows, and the peers; and the memory it takes."""
    sizes = context.sizes
    row = Row("read", f"read {sizes.read:,} events as typed objects", "events/s", lower_is_better=False)

    def reading(read: Callable[[], Awaitable[int]]) -> Subject:
        async def subject() -> float:
            began = time.perf_counter()
            events = await read()
            assert events == sizes.read, events  # noqa: S101 - a reader that skips is no reader
            return events / (time.perf_counter() - began)

        return subject

    async def ready(peer: PeerProcess) -> None:
        await fill_peer(peer, sizes.written_by_peers, sizes.read)

    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        context.tell(f"{row.name}, writing {sizes.read:,} events")
        await copy_streams(dsn, sizes.read)
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(dsn, 1))
        peers = await stack.enter_async_context(context.peers(row, ready))
        subjects = {
            OURS: reading(lambda: ours.read_log(store, sizes.read)),
            RAW: reading(lambda: raw.read_log(pool, sizes.read)),
        }
        for name, peer in peers.items():
            subjects[name] = asking(peer, "reads", limit=sizes.read)
        await context.run(row, subjects)
        footprints = [await memory.of("read", dsn, sizes.read) for _ in range(context.rounds)]
    row.compare(f"over {RAW}", "raw fetch and validate", OURS, RAW, at_least=0.8, stretch=1.0)
    row.compare_with_best(OURS, list(peers), at_least=1.5)
    row.judge("memory above idle, MiB", "memory, MiB", [footprint.above_idle for footprint in footprints], at_most=64)
    row.judge(
        "growth from the first half to the second, MiB", "growth, MiB", [one.growth for one in footprints], at_most=4
    )
    row.notes.append(
        f"Peers read as many events from their own tables: {sizes.written_by_peers:,} that they have written, and "
        "copies of these in streams with other ids, made in SQL, because some would take an hour to write all. Memory "
        "is the resident set of a process of its own that does nothing but read, sampled 100 times; idle is the store "
        "opened and one event read."
    )
    return row


async def fill_peer(peer: PeerProcess, written: int, events: int) -> None:
    """Have a peer write events, and copy them in its tables until there are enough.

    Args:
        peer: It has an empty database.
        written: How many it writes.
        events: How many there are in the end: a multiple of it.
    """
    await peer.ask("fill", streams=STREAMS_OF_PEERS, events=written // STREAMS_OF_PEERS)
    await peer.ask("reads", limit=written)  # says so, if it has no way to read them
    copying = await peer.ask("copying", copies=events // written - 1)
    await server.execute(peer.dsn, copying["sql"])
    await server.execute(peer.dsn, "VACUUM (ANALYZE)")
    await server.execute(peer.dsn, "CHECKPOINT")
