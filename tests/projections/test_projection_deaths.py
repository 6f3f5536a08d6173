"""A handler that takes its process down with it does so a few times, and then its event is given up like any other."""

from __future__ import annotations

import asyncio
from collections import Counter

import asyncpg
import pytest

from eventstore import ANY, EventStore, ProjectionContext
from eventstore.projections import ParkedStreams, replay_parked
from eventstore.projections.runs import PART, Runs
from eventstore.projections.stretches import ALL, LogStretch
from eventstore.subscriptions import Checkpoint
from fixtures.deadly import DIED, run_deadly
from fixtures.projecting import clean_fold, fill, project_all, rows, sales
from fixtures.shop import OrderPlaced, placed

RUNS = "SELECT count(*) FROM eventstore.projection_runs"
NOTED = "SELECT stream_id, stream_version, attempts FROM eventstore.projection_runs"


async def start(dsn: str, connection: asyncpg.Connection, *arguments: str) -> tuple[int, str]:
    """Run the worker to its end, without waiting for the lease of the one before it to run out."""
    await connection.execute("UPDATE eventstore.leases SET expires_at = '-infinity'")
    return await asyncio.to_thread(run_deadly, dsn, *arguments)


async def projected(store: EventStore) -> list[int]:
    """Apply what is there; return how many events were in each transaction: that is what care looks like."""
    transactions: Counter[int] = Counter()

    async def note(_event: object, ctx: ProjectionContext) -> None:
        transactions[await ctx.connection.fetchval("SELECT txid_current()")] += 1

    await project_all(store, sales(before=note))
    return list(transactions.values())


async def fill_with_a_deadly_one(store: EventStore) -> None:
    for number in range(12):
        for name in "abc":
            await store.append(
                f"order-{name}", [placed(7 if (name, number) == ("b", 6) else 1, name)], expected_version=ANY
            )


async def all_but_b_from_seven_on(store: EventStore) -> dict[str, int]:
    counted: Counter[str] = Counter()
    async for event in store.read_all(of=OrderPlaced):
        if event.data.sku != "b" or event.stream_version < 7:
            counted[event.data.sku] += event.data.quantity
    return dict(counted)


async def test_a_deadly_event_is_parked_after_its_attempts_and_all_others_are_applied(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill_with_a_deadly_one(store)

    codes = [(await start(dsn, connection, "park", "2"))[0] for _ in range(4)]

    assert codes == [DIED, DIED, DIED, 0]  # in its batch, then twice carefully
    (held,) = await ParkedStreams(store.database, "sales@1").held()
    assert (held.stream_id, held.from_version, held.error_type, held.attempts) == ("order-b", 7, "ProcessDied", 2)
    assert await rows(connection) == await all_but_b_from_seven_on(store)
    assert await connection.fetchval(RUNS) == 0

    await replay_parked(store, sales(), "order-b")
    assert await rows(connection) == await clean_fold(store)


async def test_where_many_may_have_been_under_way_they_are_tried_in_parts_and_only_the_deadly_part_one_by_one(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    for number in range(5):
        events = [placed(7 if number == 2 and event == 25 else 1, str(event)) for event in range(50)]
        await store.append(f"order-{number}", events, expected_version=ANY)

    codes, noted = [], []
    for _ in range(4):
        codes.append((await start(dsn, connection, "park", "1"))[0])
        noted.append(await connection.fetchrow(NOTED))

    assert codes == [DIED, DIED, DIED, 0]  # in its batch, in its part, and alone
    # A worker's first batch is of 16 events, its second of 128. The second one dies in a part that begins at the 33rd.
    assert noted == [(None, None, 0), ("order-0", 33, -100), ("order-2", 26, 1), None]
    (held,) = await ParkedStreams(store.database, "sales@1").held()
    assert (held.stream_id, held.from_version) == ("order-2", 26)


async def test_to_stop_ends_a_worker_that_has_died_at_an_event_so_often_before_it_dies_again(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill_with_a_deadly_one(store)

    ends = [await start(dsn, connection, "stop", "1") for _ in range(3)]

    assert [code for code, _ in ends] == [DIED, DIED, 1]
    assert "failed on version 7 of 'order-b' ('OrderPlaced'): the process ended while it handled it" in ends[-1][1]
    assert sum((await rows(connection)).values()) == 3 * 6 + 1


async def test_who_comes_after_a_death_is_careful_only_until_it_is_past_the_place(
    store: EventStore, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row that was left over is what a death looks like."""
    monkeypatch.setattr("eventstore.projections.worker.BATCH", 5)
    await fill(store, 20)
    await connection.execute("INSERT INTO eventstore.projection_runs VALUES ('sales@1', '', gen_random_uuid())")
    transactions = await projected(store)

    assert transactions == [1] * 5 + [5] * 3
    assert await connection.fetchval(RUNS) == 0


async def test_who_comes_after_a_death_applies_large_batches_in_parts(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 250)
    await connection.execute("INSERT INTO eventstore.projection_runs VALUES ('sales@1', '', gen_random_uuid())")
    transactions = await projected(store)

    # The first batches are small, for it is not known yet how large events are.
    assert transactions == [1] * 16 + [PART, 28, PART, 6]


async def test_what_a_dead_one_has_noted_counts_only_where_its_share_goes_on(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    """What was noted once is still there when the next one dies in an ordinary batch, far behind it."""
    await fill(store, 50)
    await project_all(store, sales())
    await fill(store, 250)
    dead = "INSERT INTO eventstore.projection_runs VALUES ('sales@1', '', gen_random_uuid(), 'order-1', 7, -100)"
    await connection.execute(dead)
    transactions = await projected(store)

    assert transactions == [1] * 16 + [PART, 28, PART, 6]


async def test_the_events_of_a_part_in_which_one_has_died_are_tried_alone_and_those_behind_it_together(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 250)
    dead = "INSERT INTO eventstore.projection_runs VALUES ('sales@1', '', gen_random_uuid(), 'order-1', 1, -30)"
    await connection.execute(dead)
    transactions = await projected(store)

    # Sixteen in the first batch, fourteen suspects in the second, and then parts of what is left of it.
    assert transactions == [1] * 30 + [PART, 14, PART, 6]


async def test_a_worker_that_stops_in_good_order_leaves_nothing_to_be_careful_about(
    store: EventStore, connection: asyncpg.Connection
) -> None:
    await fill(store, 3)
    await project_all(store, sales())

    assert await connection.fetchval(RUNS) == 0


async def test_the_connections_breaks_count_against_the_event_that_was_alone_then_and_no_other(
    store: EventStore,
) -> None:
    result = await store.append("order-1", [placed(1), placed(2)], expected_version=ANY)
    breaking, sound = await store.log.events_by_ids("order-1", result.event_ids)
    runs = Runs(store, "sales@1", 10)
    together = LogStretch("sales@1", [breaking, sound], Checkpoint(), Checkpoint(), 2)
    alone, _ = together.split(1)

    for stretch in (together, together, alone, alone):
        runs.note_break(stretch, ConnectionError("cut"))

    breaks = runs.breaks_at(ALL, breaking)
    assert breaks is not None
    assert (breaks.times, breaks.alone) == (4, 2)
    assert runs.breaks_at(ALL, sound) is None


async def test_a_sound_event_survives_any_number_of_deaths_of_others(
    dsn: str, store: EventStore, connection: asyncpg.Connection
) -> None:
    """What is noted is the event that was being tried, so that what follows it is not blamed."""
    for number in range(3):
        await store.append(f"order-{number}", [placed(7), placed(1)], expected_version=ANY)
    codes: list[int] = []
    while not codes or codes[-1] != 0:
        codes.append((await start(dsn, connection, "park", "1"))[0])
    await store.append("order-9", [placed(1)], expected_version=ANY)
    codes.append((await start(dsn, connection, "park", "1"))[0])

    held = await ParkedStreams(store.database, "sales@1").held()
    assert [(one.stream_id, one.from_version) for one in held] == [(f"order-{number}", 1) for number in range(3)]
    assert await rows(connection) == {"tea": 1}
    assert codes == [DIED] * 4 + [0, 0]
