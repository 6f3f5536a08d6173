"""SIGKILL of PostgreSQL, all its processes at once, under eight writers: what was acknowledged is there, once.

    make campaign ARGS="-k durability"    the long form: 200 kills
    make test                             the quick form: 50 kills

The writers go through two stores, so that calls share batches and connections, and others do not; they append to
streams of their own with exact versions, to new streams, to one stream together, and in transactions. Nobody tells them
of the kills: they have to carry on by themselves. Afterwards every answer is held against the table.

A killed process loses nothing that the operating system has taken: this proves crashes of PostgreSQL, and not the loss
of power, which asks for honest disks.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack

from eventstore import ANY, NO_STREAM, AppendResult, EventStore, NewEvent
from eventstore.errors import OutcomeUnknownError, WrongExpectedVersionError
from eventstore.lifecycle import Backoff
from fixtures import shop
from fixtures.campaigns import report
from fixtures.ledger import Answer, Attempt, Ledger
from fixtures.own_postgres import OwnPostgres
from fixtures.stores import connected

WRITERS = 8
ACKNOWLEDGED_BETWEEN_KILLS = 20
"""By each writer, so that a kill meets all of them at work."""
LATEST_KILL = 0.1
"""Seconds after that."""
CARRY_ON_SECONDS = 30.0
TOGETHER = "together-1"


class Writer:
    """Appends in every way, one call after the other, until it is told to stop."""

    def __init__(self, number: int, store: EventStore, ledger: Ledger, chance: random.Random) -> None:
        self._name = f"writer-{number}"
        self._store = store
        self._ledger = ledger
        self._chance = random.Random(chance.random())
        self._version = 0
        self._count = 0
        self._wanted = 0
        self._reached = asyncio.Event()
        self._stopped = False

    def stop(self) -> None:
        """Begin no further call."""
        self._stopped = True

    async def work(self) -> None:
        backoff = Backoff(first=0.01, most=0.2)
        while not self._stopped:
            self._count += 1
            if await self._once() is Answer.ACKNOWLEDGED:
                backoff.reset()
                self._wanted -= 1
                if self._wanted <= 0:
                    self._reached.set()
            else:
                await backoff.wait()

    async def acknowledged(self, wanted: int) -> None:
        """Return once so many more of its calls were acknowledged."""
        self._wanted = wanted
        self._reached.clear()
        await self._reached.wait()

    async def _once(self) -> Answer:
        choice = self._chance.choice([self._to_own, self._to_new, self._together, self._in_transaction])
        return await choice()

    async def _to_own(self) -> Answer:
        attempt = self._attempt({self._name: self._chance.randint(1, 3)})
        version = self._version
        answer = await attempt.answered(lambda: self._append(attempt, self._name, version))
        self._learn(attempt)
        return answer

    async def _to_new(self) -> Answer:
        stream_id = f"new-{self._name}.{self._count}"
        attempt = self._attempt({stream_id: 1})
        return await attempt.answered(lambda: self._append(attempt, stream_id, 0))

    async def _together(self) -> Answer:
        attempt = self._attempt({TOGETHER: 2}, alone=False)
        return await attempt.answered(lambda: self._append(attempt, TOGETHER, None))

    async def _append(self, attempt: Attempt, stream_id: str, version: int | None) -> list[AppendResult]:
        """Append, and again with the same ids as long as the outcome is unknown, as the error says."""
        events = [NewEvent(event) for event in attempt.events(stream_id)]
        expected = ANY if version is None else version or NO_STREAM
        while True:
            try:
                return [await self._store.append(stream_id, events, expected_version=expected)]
            except OutcomeUnknownError as error:
                pairs = zip(events, error.event_ids, strict=True)
                events = [NewEvent(event.data, event_id=event_id) for event, event_id in pairs]

    async def _in_transaction(self) -> Answer:
        new = f"both-{self._name}.{self._count}"
        attempt = self._attempt({self._name: 1, new: 2}, with_sql=True)

        async def work() -> list[AppendResult]:
            async with self._store.transaction() as tx:
                results = [
                    await tx.append(self._name, attempt.events(self._name), expected_version=self._version),
                    await tx.append(new, attempt.events(new), expected_version=NO_STREAM),
                ]
                await attempt.write_row(tx)
            return results

        answer = await attempt.answered(work)
        self._learn(attempt)
        return answer

    def _attempt(self, streams: dict[str, int], *, alone: bool = True, with_sql: bool = False) -> Attempt:
        return self._ledger.attempt(f"{self._name}#{self._count}", streams, alone=alone, with_sql=with_sql)

    def _learn(self, attempt: Attempt) -> None:
        """Note the version of the own stream that an answer tells."""
        for result in attempt.results:
            if result.stream_id == self._name:
                self._version = result.stream_version
        if isinstance(attempt.error, WrongExpectedVersionError):
            self._version = attempt.error.actual


async def kill_under_writers(
    server: OwnPostgres, dsn: str, chance: random.Random, kills: int, *, enough: int | None = None
) -> dict[str, list[str]]:
    """Kill the server so many times under the writers; returns what the ledger finds wrong.

    Args:
        server: The server.
        dsn: A database on it.
        chance: Decides what the writers do, and when a kill comes.
        kills: How many.
        enough: Stop after so many lost events, if a loss is what is looked for.
    """
    ledger = Ledger()
    killed = 0
    await ledger.prepare(dsn)
    async with AsyncExitStack() as stack:
        stores = [await stack.enter_async_context(EventStore.open(dsn, shop.app)) for _ in range(2)]
        writers = [Writer(number, stores[number % 2], ledger, chance) for number in range(WRITERS)]
        group = await stack.enter_async_context(asyncio.TaskGroup())
        for writer in writers:
            group.create_task(writer.work())
        for _ in range(kills):
            async with asyncio.timeout(CARRY_ON_SECONDS):
                await asyncio.gather(*(writer.acknowledged(ACKNOWLEDGED_BETWEEN_KILLS) for writer in writers))
            await asyncio.sleep(chance.uniform(0, LATEST_KILL))  # not a wait for anything: the kill is to be anywhere
            await server.kill()
            killed += 1
            await server.start()
            if enough and len((await ledger.faults(dsn)).get("lost", [])) >= enough:
                break
        async with asyncio.timeout(CARRY_ON_SECONDS):
            await asyncio.gather(*(writer.acknowledged(1) for writer in writers))
        for writer in writers:
            writer.stop()
    report(f"durability: {killed} kills, {len(ledger.attempts)} calls: {ledger.counts()}")
    return await ledger.faults(dsn)


# --- the promise ---------------------------------------------------------------------------------------------------


async def test_no_kill_of_the_server_loses_doubles_or_reorders_what_was_acknowledged(
    own_postgres: OwnPostgres, own_dsn: str, chance: random.Random, *, is_long: bool
) -> None:
    assert await kill_under_writers(own_postgres, own_dsn, chance, 200 if is_long else 50) == {}


async def test_with_synchronous_commit_off_the_same_campaign_reports_losses(
    own_postgres: OwnPostgres, own_dsn: str, chance: random.Random
) -> None:
    """The broken variant: such a server acknowledges what it has not written."""
    async with connected(own_dsn) as connection:
        database = await connection.fetchval("SELECT current_database()")
        await connection.execute(f"ALTER DATABASE {database} SET synchronous_commit = off")
        await connection.execute(f"ALTER DATABASE {database} SET eventstore.durability_check = off")

    faults = await kill_under_writers(own_postgres, own_dsn, chance, 20, enough=1)

    assert faults["lost"]
