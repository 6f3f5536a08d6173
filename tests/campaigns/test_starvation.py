"""Overload and starvation: a clear typed error or a bounded wait, nothing lost, and the store works again by itself.

Each test takes something away from the store (connections, time, disk, the server itself), lets calls meet the want,
gives it back, and asks for an acknowledged append within five seconds, from the same store. At the end every answer is
held against the table.

    make test                                kept short
    make campaign ARGS="-k starvation"       the server is restarted 40 times
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import asyncpg
import pytest

from eventstore import NO_STREAM, AppendResult, EventStore
from eventstore.devserver.accounts import server_account
from eventstore.errors import UnavailableError
from eventstore.lifecycle import Backoff
from eventstore.store import appending
from eventstore.store.grouping import LANES
from fixtures import shop
from fixtures.campaigns import report
from fixtures.holding import POLL_SECONDS
from fixtures.ledger import Answer, Attempt, Ledger
from fixtures.own_postgres import DURABLE, OwnPostgres
from fixtures.run import Run
from fixtures.shop import NoteTaken
from fixtures.stores import connected

WORKS_AGAIN_SECONDS = 5.0


class Client:
    """A service that goes on calling its store.

    Attributes:
        store: Its store, which is opened once.
    """

    def __init__(self, store: EventStore, dsn: str) -> None:
        self.store = store
        self._dsn = dsn
        self._ledger = Ledger()
        self._count = 0
        self._waited = list[float]()

    async def call(self, size: int = 0, timeout: float | None = None) -> Attempt:
        """Append to a new stream, an event of at least this size, and wait no longer than some seconds for it."""
        self._count += 1
        stream_id = f"call-{self._count:05}"
        incompressible = os.urandom(size // 2).hex()
        attempt = self._ledger.attempt(stream_id + incompressible, {stream_id: 1})

        async def append() -> list[AppendResult]:
            events = attempt.events(stream_id)
            return [await self.store.append(stream_id, events, expected_version=NO_STREAM, timeout=timeout)]

        await attempt.answered(append)
        return attempt

    async def calls(self, count: int, size: int = 0, timeout: float | None = None) -> list[Attempt]:
        """Make so many calls at once."""
        return await asyncio.gather(*(self.call(size, timeout) for _ in range(count)))

    async def works_again(self) -> None:
        """Go on calling until a call is acknowledged, which has to be soon."""
        backoff, began = Backoff(first=0.02, most=0.2), time.monotonic()
        async with asyncio.timeout(WORKS_AGAIN_SECONDS):
            while (await self.call()).answer is not Answer.ACKNOWLEDGED:
                await backoff.wait()
        self._waited.append(time.monotonic() - began)

    async def faults(self) -> dict[str, list[str]]:
        """Return the answers that the table disagrees with."""
        waited = f"; worked again after {max(self._waited):.2f} s, at the most" if self._waited else ""
        report(f"starvation: {self._ledger.counts()}{waited}")
        return await self._ledger.faults(self._dsn)


@asynccontextmanager
async def client(dsn: str, *, pool_size: int = 4, pool_timeout: float = 10.0) -> AsyncIterator[Client]:
    """Open a service's store."""
    await Ledger.prepare(dsn)
    async with EventStore.open(dsn, shop.app, pool_size=pool_size, pool_timeout=pool_timeout) as store:
        yield Client(store, dsn)


def refusals(attempts: list[Attempt]) -> list[str]:
    """Return what refused calls were told; all of them were refused, with an error that says to try again."""
    assert {attempt.answer for attempt in attempts} == {Answer.REFUSED}
    assert all(isinstance(attempt.error, UnavailableError) for attempt in attempts)
    return [str(attempt.error) for attempt in attempts]


# --- no free connection --------------------------------------------------------------------------------------------


async def test_an_exhausted_pool_is_waited_for_no_longer_than_its_timeout(dsn: str) -> None:
    async with client(dsn, pool_timeout=0.2) as service:
        async with AsyncExitStack() as held:
            for _ in range(4):
                await held.enter_async_context(service.store.transaction())
            told = refusals(await service.calls(3))
            with pytest.raises(UnavailableError, match="in use"):
                await service.store.read_stream("order-1").to_list()
            with pytest.raises(UnavailableError, match="in use"):
                async with service.store.transaction():
                    pytest.fail("there was a fifth connection")
        await service.works_again()

        assert all("all 4 of the pool are in use" in text and "pool_size" in text for text in told)
        assert await service.faults() == {}


async def test_a_connection_that_comes_free_in_time_is_used(dsn: str) -> None:
    async with client(dsn) as service:
        async with AsyncExitStack() as held:
            for _ in range(4):
                await held.enter_async_context(service.store.transaction())
            calls = asyncio.create_task(service.calls(20))
            await asyncio.sleep(0)
        assert {attempt.answer for attempt in await calls} == {Answer.ACKNOWLEDGED}
        assert await service.faults() == {}


async def test_a_server_without_a_free_connection_says_so(own_dsn: str) -> None:
    async with client(own_dsn, pool_size=8) as service:
        async with AsyncExitStack() as held:
            await take_all_connections(held, own_dsn)
            async with service.store.transaction(), service.store.transaction():  # those that the pool has
                told = refusals(await service.calls(3))
        await service.works_again()

        assert all("max_connections" in text for text in told)
        assert await service.faults() == {}


async def take_all_connections(held: AsyncExitStack, dsn: str) -> None:
    """Connect until the server takes nobody in, superusers included."""
    while True:
        try:
            await held.enter_async_context(connected(dsn))
        except asyncpg.TooManyConnectionsError:
            return


# --- no time -------------------------------------------------------------------------------------------------------


async def test_a_statement_timeout_is_a_refusal_and_nothing_has_happened(
    dsn: str, connection: asyncpg.Connection
) -> None:
    database = await connection.fetchval("SELECT current_database()")
    await connection.execute(f"ALTER DATABASE {database} SET statement_timeout = '100ms'")
    async with client(dsn) as service:
        async with connection.transaction():
            await connection.execute("LOCK TABLE eventstore.events IN ACCESS EXCLUSIVE MODE")
            told = refusals(await service.calls(6))
        await service.works_again()

        assert all("statement timeout" in text for text in told)
        assert await service.faults() == {}


async def test_a_frozen_server_costs_a_call_its_timeout_and_a_moment(own_postgres: OwnPostgres, own_dsn: str) -> None:
    async with client(own_dsn) as service:
        await service.call()
        own_postgres.signal_all(signal.SIGSTOP)
        began = asyncio.get_running_loop().time()
        answers = {attempt.answer for attempt in await service.calls(3, timeout=0.3)}
        took = asyncio.get_running_loop().time() - began
        own_postgres.signal_all(signal.SIGCONT)
        await service.works_again()

        assert await service.faults() == {}
    assert Answer.UNKNOWN in answers
    assert answers <= {Answer.UNKNOWN, Answer.REFUSED}  # sent, or not sent yet
    assert took < WORKS_AGAIN_SECONDS


# --- no disk -------------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(run: Run, name: str, megabytes: int) -> Iterator[Path]:
    """Mount a disk of this size that PostgreSQL may write to; skip the test where nobody may mount."""
    directory = run.directory / f"{name}-{os.getpid()}"
    directory.mkdir()
    mounting = ["/bin/mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(directory)]
    done = subprocess.run(mounting, capture_output=True, check=False)  # noqa: S603 - two programs of the system
    if done.returncode != 0:
        pytest.skip("a small disk cannot be mounted here: that takes root")
    account = server_account()
    try:
        if account:
            os.chown(directory, account.uid, account.gid)
        yield directory
    finally:
        subprocess.run(["/bin/umount", "-l", directory], check=True)  # noqa: S603 - the other one
        directory.rmdir()


LARGE = NoteTaken(text="x" * 500_000)


async def test_a_full_disk_refuses_appends_and_takes_them_again_when_there_is_room(
    run: Run, own_postgres: OwnPostgres, own_dsn: str
) -> None:
    """The tables are on the small disk, the write-ahead log is not."""
    with small_disk(run, "tablespace", 24) as disk:
        async with tables_on(disk, own_postgres, own_dsn):
            await refuse_while_full(disk, own_dsn)


@asynccontextmanager
async def tables_on(disk: Path, server: OwnPostgres, dsn: str) -> AsyncIterator[None]:
    """Move a database to a disk; at the end it is dropped."""
    database = dsn.rpartition("/")[2]
    async with connected(server.admin_dsn) as administrator:
        await administrator.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
        await administrator.execute(f"ALTER DATABASE {database} SET TABLESPACE small")
        try:
            yield
        finally:
            server.databases.drop(dsn)
            await administrator.execute("DROP TABLESPACE small")


async def refuse_while_full(disk: Path, dsn: str) -> None:
    async with client(dsn) as service:
        ballast = disk / "ballast"
        fill(ballast, disk)
        told: list[str] = []
        async with asyncio.timeout(30):
            while not told:  # there is room in the pages that the tables have already
                attempts = await service.calls(8)
                told = [str(attempt.error) for attempt in attempts if attempt.answer is Answer.REFUSED]
        with pytest.raises(UnavailableError):
            async with service.store.transaction() as tx:
                await tx.append("large-1", [LARGE] * 20, expected_version=NO_STREAM)
        ballast.unlink()
        await service.works_again()

        assert all("No space left" in text for text in told)
        assert await service.faults() == {}


async def test_a_server_that_a_full_disk_brings_down_has_lost_nothing_when_it_is_back(run: Run) -> None:
    """The write-ahead log is on the small disk, where PostgreSQL cannot go on and gives up."""
    server = OwnPostgres(run.directory / f"panic-{os.getpid()}", DURABLE | {"restart_after_crash": "off"})
    with small_disk(run, "wal", 64) as disk:
        await server.stop(signal.SIGINT)
        move(server.data_directory / "pg_wal", disk / "pg_wal")
        await server.start()
        try:
            async with client(server.databases.create()) as service:
                ballast = disk / "ballast"
                fill(ballast, disk)
                enough = asyncio.Event()
                calling = asyncio.create_task(call_until(enough, service, size=200_000))
                await server.ended()
                ballast.unlink()
                await server.start()
                await service.works_again()
                enough.set()

                assert await calling <= {Answer.ACKNOWLEDGED, Answer.REFUSED}
                assert await service.faults() == {}
        finally:
            await server.stop(signal.SIGQUIT)


def move(directory: Path, to: Path) -> None:
    """Move a directory to another disk, and leave a link where it was."""
    owner = directory.stat()
    shutil.move(directory, to)
    for path in (to, *to.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
    directory.symlink_to(to)


def fill(ballast: Path, disk: Path) -> None:
    """Leave no room on a disk."""
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(min(65_536, max(4096, shutil.disk_usage(disk).free))))
        except OSError:
            return


# --- no server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
async def test_a_restarted_server_is_found_again(
    own_postgres: OwnPostgres, own_dsn: str, chance: random.Random, how: signal.Signals, *, is_long: bool
) -> None:
    async with client(own_dsn) as service:
        for _ in range(20 if is_long else 2):
            enough = asyncio.Event()
            calling = asyncio.create_task(call_until(enough, service))
            await asyncio.sleep(chance.uniform(0, 0.1))  # not a wait: the restart is to be anywhere
            await own_postgres.stop(how)
            await own_postgres.start()
            await service.works_again()
            enough.set()
            assert await calling <= {Answer.ACKNOWLEDGED, Answer.REFUSED}

        assert await service.faults() == {}


async def call_until(enough: asyncio.Event, service: Client, size: int = 0) -> set[Answer]:
    """Call, four calls at a time; returns what was answered."""
    backoff = Backoff(first=0.02, most=0.2)
    answers: set[Answer] = set()
    while not enough.is_set():
        answers |= (now := {attempt.answer for attempt in await service.calls(4, size)})
        if now != {Answer.ACKNOWLEDGED}:
            await backoff.wait()
    return answers


async def test_a_server_that_stays_away_keeps_nobody_waiting_longer_than_it_is_asked(
    own_postgres: OwnPostgres, own_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that were lost together are given up together, however few connections can ask for them."""
    monkeypatch.setattr(appending, "RESOLVE_SECONDS", 0.5)
    async with client(own_dsn) as service:
        async with connected(own_dsn) as holder:
            await holder.execute("BEGIN; LOCK TABLE eventstore.events IN ACCESS EXCLUSIVE MODE")
            calling = asyncio.create_task(service.calls(40))
            await until_locked_out(holder)
            await own_postgres.kill()
            async with asyncio.timeout(WORKS_AGAIN_SECONDS):
                attempts = await calling
            await own_postgres.start()
            await service.works_again()

        assert {attempt.answer for attempt in attempts} == {Answer.UNKNOWN}
        assert await service.faults() == {}


async def until_locked_out(holder: asyncpg.Connection) -> None:
    """Return once two batches wait for what the holder has locked."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with asyncio.timeout(WORKS_AGAIN_SECONDS):
        while True:
            if await holder.fetchval(waiting) >= LANES:
                return
            await asyncio.sleep(POLL_SECONDS)


def test_the_campaigns_server_is_durable() -> None:
    """Else they would prove nothing."""
    assert not {"fsync", "synchronous_commit", "full_page_writes"} & set(DURABLE)
