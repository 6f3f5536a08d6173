"""A worker that crashes at any place where it waits: in the end the read model is a clean fold of the log.

    make campaign            the long form: every place, in every way, with and without a poisoned event; 20 real kills
    make test                the quick form: places chosen by chance, and 2 real kills

The places are those of all its tasks: applying, reading ahead, and renewing its lease. In every way: it is cancelled
and cleans up; its connections break and it goes on by itself; it dies, so that nothing of what it would still have done
reaches the database. A replay of a parked stream is crashed at all its places likewise.
"""

from __future__ import annotations

import asyncio
import math
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from functools import partial, partialmethod
from itertools import product
from typing import Any, Final

import asyncpg
import pytest

from eventstore import ANY, EventStore, Park, Projection, ProjectionContext, RecordedEvent, check_health
from eventstore.codec import StoredEvent
from eventstore.lifecycle import ended
from eventstore.projections import ParkedStreams, ProjectionRunner, ProjectionWorker, replay_all_parked, replay_parked
from eventstore.projections.applying import SessionHook
from eventstore.subscriptions import Leases
from fixtures.campaigns import report
from fixtures.crashing import WAYS, Way, crashes, crashing, reported
from fixtures.deadly import TESTS
from fixtures.projecting import WITHIN, clean_fold, rows, sales
from fixtures.shop import OrderPlaced, placed
from fixtures.stepping import Steps
from fixtures.stores import connected, open_store
from fixtures.tcp_proxy import TcpProxy, proxied

POISON: Final = 7
EVENTS: Final = 24
LEASE_SECONDS: Final = 0.15
"""So short that a lease is renewed a few times while one of these workers runs."""


async def fail_on_poison(event: RecordedEvent[Any], _ctx: ProjectionContext) -> None:
    if event.data.quantity == POISON:
        raise ZeroDivisionError


def declared(name: str, *, poisoned: bool, attempts: int = 2) -> Projection:
    """Declare a read model of its own, whose handler fails on the poisoned event or has been mended."""
    policy = Park(attempts=attempts, first=0.001, longest=0.002)
    return sales(name, on_failure=policy, **({"after": fail_on_poison} if poisoned else {}))


class Bench:
    """A log with one poisoned event, and read models that are crashed on it.

    Args:
        direct: A store that nothing happens to.
        store: A store behind the proxy.
        proxy: The proxy.
        connection: A reader's connection.
    """

    def __init__(self, direct: EventStore, store: EventStore, proxy: TcpProxy, connection: asyncpg.Connection) -> None:
        self.direct = direct
        self.store = store
        self._proxy = proxy
        self._connection = connection
        self._runs = 0

    async def fill(self) -> None:
        for number in range(EVENTS):
            quantity = POISON if number == EVENTS // 2 else 1
            await self.direct.append(f"order-{number % 3}", [placed(quantity, "abc"[number % 3])], expected_version=ANY)

    def new_name(self) -> str:
        """Return the name of a read model that there was none of."""
        self._runs += 1
        return f"sales_{self._runs}"

    # --- crashing --------------------------------------------------------------------------------------------------

    async def crash_worker(self, name: str, way: Way, at: int, *, poisoned: bool) -> Steps:
        """Run a worker until it is through, or has crashed."""
        worker = ProjectionWorker(self.store, declared(name, poisoned=poisoned))
        async with asyncio.timeout(WITHIN), crashing(worker.run(), self._proxy, way, at) as steps:
            caught_up = asyncio.create_task(worker.progress.caught_up(self.direct.log))
            try:
                await asyncio.wait({steps.task, caught_up}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await ended(caught_up)
        return steps

    async def crash_replay(self, name: str, way: Way, at: int) -> Steps:
        """Replay the parked stream, or crash at it."""
        work = replay_parked(self.store, declared(name, poisoned=False), "order-0")
        async with asyncio.timeout(WITHIN), crashing(work, self._proxy, way, at) as steps:
            await asyncio.wait({steps.task})
        return steps

    # --- judging ---------------------------------------------------------------------------------------------------

    async def is_right(self, name: str, *, poisoned: bool) -> bool:
        """Let a worker that nothing happens to go on to the end, and hold the read model against a clean fold."""
        await self._connection.execute("UPDATE eventstore.leases SET expires_at = '-infinity'")
        worker = ProjectionWorker(self.direct, declared(name, poisoned=poisoned))
        async with asyncio.timeout(WITHIN):
            await worker.run_until_caught_up()
        held = {one.stream_id: one.from_version for one in await self._parked(name)}
        if held != ({"order-0": 5} if poisoned else {}):
            return False
        return await rows(self._connection, f"{name}_v1") == await self._expected(held)

    async def worker_is_right(self, way: Way, at: int, *, poisoned: bool) -> Steps:
        """Crash a worker, and require that its read model is right in the end."""
        name = self.new_name()
        steps = await self.crash_worker(name, way, at, poisoned=poisoned)
        assert await self.is_right(name, poisoned=poisoned), f"{way} at {at}, in {steps.met}, {poisoned=}"
        return steps

    async def replay_is_right(self, way: Way, at: int) -> Steps:
        """Crash a replay of a parked stream, and require that the read model is right after another one."""
        name = self.new_name()
        assert await self.is_right(name, poisoned=True)
        steps = await self.crash_replay(name, way, at)
        assert await self.is_right_after_replay(name), f"{way} at {at}, in {steps.met}"
        return steps

    async def is_done_with(self, name: str) -> None:
        """Wait until a worker has done with the log as it is."""
        end = (await check_health(self.direct)).log.last_position
        while True:
            health = await check_health(self.direct)
            if any(one.name == f"{name}@1" and one.position >= end for one in health.followers):
                return
            await asyncio.sleep(0.02)  # only the database knows

    async def is_right_after_replay(self, name: str) -> bool:
        """Replay what is still parked, and hold the read model against a clean fold of everything."""
        async for _ in replay_all_parked(self.direct, declared(name, poisoned=False)):
            pass
        return not await self._parked(name) and await rows(self._connection, f"{name}_v1") == await clean_fold(
            self.direct
        )

    async def _parked(self, name: str) -> Sequence[Any]:
        return await ParkedStreams(self.direct.database, f"{name}@1").held()

    async def _expected(self, held: dict[str, int]) -> dict[str, int]:
        counted: Counter[str] = Counter()
        async for event in self.direct.read_all(of=OrderPlaced):
            if event.stream_version < held.get(event.stream_id, math.inf):
                counted[event.data.sku] += event.data.quantity
        return dict(counted)


@asynccontextmanager
async def bench_on(dsn: str) -> AsyncIterator[Bench]:
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(proxied(dsn))
        direct = await stack.enter_async_context(open_store(dsn))
        store = await stack.enter_async_context(open_store(proxy.dsn))
        connection = await stack.enter_async_context(connected(dsn))
        bench = Bench(direct, store, proxy, connection)
        await bench.fill()
        yield bench


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.projections.worker.BATCH", 5)


@pytest.fixture
def short_leases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Leases, "__init__", partialmethod(Leases.__init__, seconds=LEASE_SECONDS))


@pytest.mark.usefixtures("short_leases")
async def test_crashed_at_every_place_where_it_waits_a_worker_leaves_a_clean_fold(
    dsn: str, chance: random.Random, *, is_long: bool
) -> None:
    met: Counter[tuple[str, str]] = Counter()
    async with bench_on(dsn) as bench:
        for poisoned, way in product((False, True), WAYS):
            crash = partial(bench.worker_is_right, way, poisoned=poisoned)
            async for task in crashes(crash, None if is_long else 5, chance):
                met[way, task] += 1
    report(f"worker crashed at {reported(met)}; each read model a clean fold")
    assert met.total() >= (500 if is_long else 20)
    if is_long:
        assert {task for _, task in met} >= {"ProjectionWorker.run", "OneAhead._fetch", "Leases.keep"}


@pytest.mark.usefixtures("short_leases")
async def test_crashed_at_every_place_where_it_waits_a_replay_happens_or_does_not(
    dsn: str, chance: random.Random, *, is_long: bool
) -> None:
    met: Counter[tuple[str, str]] = Counter()
    async with bench_on(dsn) as bench:
        for way in WAYS:
            async for task in crashes(partial(bench.replay_is_right, way), None if is_long else 4, chance):
                met[way, task] += 1
    report(f"replay crashed at {reported(met)}; each read model a clean fold")
    assert met.total() >= (60 if is_long else 10)


@pytest.mark.usefixtures("short_leases")
async def test_the_campaign_catches_a_checkpoint_outside_the_projectors_transaction(
    dsn: str, monkeypatch: pytest.MonkeyPatch, chance: random.Random
) -> None:
    apply = ProjectionRunner.apply

    async def apply_then_note(
        runner: ProjectionRunner, events: Sequence[StoredEvent], *, session_hook: SessionHook
    ) -> None:
        async def note_nothing(_session: Any) -> None:
            """Leave it for later."""

        await apply(runner, events, session_hook=note_nothing)
        async with runner.store.database.transaction() as session:
            await session_hook(session)

    async with bench_on(dsn) as bench:
        monkeypatch.setattr(ProjectionRunner, "apply", apply_then_note)
        places = (await bench.crash_worker(bench.new_name(), "dead", 0, poisoned=False)).taken
        for at in chance.sample(range(1, places + 1), places):
            name = bench.new_name()
            await bench.crash_worker(name, chance.choice(WAYS), at, poisoned=False)
            if not await bench.is_right(name, poisoned=False):
                report(f"caught at place {at} of {places}")
                return
    pytest.fail("it was not caught")


# --- real kills ------------------------------------------------------------------------------------------------------


async def test_killed_at_any_moment_a_process_leaves_a_clean_fold(
    dsn: str, chance: random.Random, *, is_long: bool
) -> None:
    """A poisoned event is among them, so that kills meet its attempts and its parking too.

    Another process stands by, and has done with all of the log within seconds of a kill, of which the lease has three.
    """
    kills, heals_within = (20, 5.0) if is_long else (2, 20.0)  # other tests have a part of the cores in the quick form
    healed = list[float]()
    async with bench_on(dsn) as bench, AsyncExitStack() as processes:
        working = processes.enter_context(worker_process(dsn))
        await said(working, "standing by")
        await said(working, "working")
        for _ in range(kills):
            heir = processes.enter_context(worker_process(dsn))
            await said(heir, "standing by")
            for _ in range(chance.randrange(60)):
                await bench.direct.append("order-1", [placed(1, "b")], expected_version=ANY)
            await asyncio.sleep(chance.uniform(0, 0.05))
            working.send_signal(signal.SIGKILL)
            began, working = time.monotonic(), heir
            async with asyncio.timeout(heals_within):
                await said(heir, "working")
                await bench.is_done_with("sales")
            healed.append(time.monotonic() - began)
        working.kill()

        assert await bench.is_right("sales", poisoned=True)
        assert await bench.is_right_after_replay("sales")
    report(f"{kills} processes killed; the next had done with the log within {max(healed):.2f} s, at the most")


@contextmanager
def worker_process(dsn: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker in a process of its own, which does not outlive the block."""
    with subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, __file__, dsn],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS.parent), str(TESTS)])},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


async def said(process: subprocess.Popen[str], line: str) -> None:
    """Wait until a worker's process says a line."""
    assert process.stdout is not None
    assert (await asyncio.to_thread(process.stdout.readline)).strip() == line


async def work(dsn: str) -> None:
    """Be the process that is killed: stand by, then work, and say when that begins."""
    async with open_store(dsn) as store:
        # More attempts than kills: no policy can tell deaths by chance at one event from deaths by that event.
        worker = ProjectionWorker(store, declared("sales", poisoned=True, attempts=50))
        task = asyncio.create_task(worker.run())
        print("standing by", flush=True)  # noqa: T201 - the parent waits for it
        await worker.progress.until(lambda: worker.progress.state == "working")
        print("working", flush=True)  # noqa: T201 - the same
        await task


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(work(sys.argv[1]))
