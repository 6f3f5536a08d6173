"""Eight callers and one stream."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Final

from benchmarks import ours, raw
from benchmarks.racing import race
from benchmarks.results import OURS, Row
from eventstore.clock import uuid7

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.context import Context
    from benchmarks.peers.client import PeerProcess
    from benchmarks.racing import AsyncStep
    from benchmarks.rounds import Subject

CALLERS: Final = 8


async def measure(context: Context) -> Row:
    """Measure appends to one stream with ANY, and with expected versions and retry; each round has a new stream."""
    row = Row(
        "contention",
        "8 callers appending to one stream with ANY, and with expected versions and retry",
        "successes/s",
        lower_is_better=False,
    )
    starvation: dict[str, list[float]] = {}

    def local(name: str, make: Callable[[str], Callable[[int], AsyncStep]]) -> Subject:
        async def subject() -> float:
            done = await race(CALLERS, context.sizes.seconds, make(f"account-{uuid7()}"))
            starvation.setdefault(name, []).append(done.starvation)
            return done.rate

        return subject

    def remote(name: str, peer: PeerProcess, **arguments: Any) -> Subject:
        async def subject() -> float:
            done = await peer.ask("contention", callers=CALLERS, seconds=context.sizes.seconds, **arguments)
            starvation.setdefault(name, []).append(done["starvation"])
            return float(done["rate"])

        return subject

    async with AsyncExitStack() as stack:
        dsn = await stack.enter_async_context(context.databases.fresh())
        raw_dsn = await stack.enter_async_context(context.databases.fresh())
        store = await stack.enter_async_context(ours.opened(dsn))
        pool = await stack.enter_async_context(raw.pool(raw_dsn, CALLERS))
        peers = await stack.enter_async_context(context.peers(row))
        by_any, by_version = f"{OURS}, ANY", f"{OURS}, versions"
        raw_name = "asyncpg, versions"
        subjects = {
            by_any: local(by_any, lambda stream: ours.appender_to(store, lambda: stream)),
            by_version: local(by_version, lambda stream: ours.contender(store, stream)),
            raw_name: local(raw_name, lambda stream: raw.contender(pool, stream)),
        }
        for label, peer in peers.items():
            subjects[f"{label}, ANY"] = remote(f"{label}, ANY", peer, versioned=False)
            subjects[f"{label}, versions"] = remote(f"{label}, versions", peer, versioned=True)
        await context.run(row, subjects)
    for ours_name, way in ((by_any, "ANY"), (by_version, "versions")):
        row.compare_with_best(ours_name, [f"{label}, {way}" for label in peers], at_least=5, way=way)
    for ours_name, way in ((by_any, "ANY"), (by_version, "versions")):
        fairness = starvation[ours_name][-context.rounds :]
        row.judge(
            f"{way}: the median caller's successes over the slowest one's", f"{way}: fairness", fairness, at_most=3
        )
    row.notes.append(_told(starvation))
    return row


def _told(starvation: dict[str, list[float]]) -> str:
    figures = "; ".join(f"{name}: {max(values):.1f}" for name, values in sorted(starvation.items()))
    return f"The median caller's successes over the slowest one's, in each one's worst round: {figures}."
