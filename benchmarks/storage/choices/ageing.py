"""What becomes of rows that are never changed: hint bits, the visibility map, freezing, and who pays for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Costs, Finding, Table, spread
from benchmarks.storage.variants import SHIPPED, Made, Variant

if TYPE_CHECKING:
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Run

_READ: Final = "SELECT sum(length(data::text)) FROM {table}"
_VACUUM: Final = "VACUUM {table}"
_FREEZE: Final = "VACUUM (FREEZE) {table}"
_ORDERS: Final = {
    "read, VACUUM, VACUUM (FREEZE)": (_READ, _VACUUM, _FREEZE),
    "VACUUM, read, VACUUM (FREEZE)": (_VACUUM, _READ, _FREEZE),
    "VACUUM (FREEZE), read, VACUUM (FREEZE)": (_FREEZE, _READ, _FREEZE),
}
_STEPS: Final = 10
_LATE: Final = "once, after a checkpoint"
_LATE_STEPS: Final = f"in {_STEPS} steps, each after a checkpoint"
_UNFROZEN: Final = f"in {_STEPS} steps, at once, without FREEZE"
_AT_ONCE: Final = f"in {_STEPS} steps, at once"
_KNOWN: Final = """
DO $$
DECLARE streams text[] := ARRAY(SELECT stream_id FROM source.{source} WHERE n % 97 = 1 AND n <= {last} LIMIT {number});
        ids uuid[] := ARRAY(SELECT event_id FROM source.{source} WHERE n % 97 = 1 AND n <= {last} LIMIT {number});
BEGIN
    SET LOCAL enable_seqscan = off;
    SET LOCAL enable_bitmapscan = off;
    SET LOCAL plan_cache_mode = force_generic_plan;
    FOR i IN 1 .. cardinality(streams) LOOP
        PERFORM WHERE EXISTS (SELECT FROM {table} e WHERE e.stream_id = streams[i] AND e.event_id = ids[i]);
    END LOOP;
END $$
"""
_IDS: Final = 5_000


async def measure(run: Run) -> Finding:
    """Measure who pays for hint bits and freezing, whether small steps cost more, and what index-only scans gain."""
    finding = Finding("ageing", "VACUUM of a log that only grows")
    source = await rows.source(run, rows.DEPOSITS_SET)
    await _orders(run, finding, source)
    await _steps(run, finding, source)
    await _look_ups(run, finding, source)
    return finding


async def _orders(run: Run, finding: Finding, source: rows.Source) -> None:
    """Do the same in three orders, each step right after a checkpoint."""
    made = await variants.make(run, source, finding.name, [Variant(name) for name in _ORDERS])
    await run.connection.execute("SET max_parallel_workers_per_gather = 0")
    table = Table(
        f"Deposits, {source.base:,} events, each step right after a checkpoint: µs and bytes of WAL an event",
        ["", "first, µs", "WAL", "second, µs", "WAL", "third, µs", "WAL", "WAL of all"],
        [],
    )
    wal = {}
    for name, one in made.items():
        costs = []
        for step in _ORDERS[name]:
            run.tell(f"{finding.name}: {name}")
            await run.connection.execute("CHECKPOINT")
            costs.append(await run.costs(step.format(table=one.table)))
        wal[name] = sum(cost.wal for cost in costs)
        table.rows.append([name, *_told(costs, source.base), wal[name] / source.base])
    await run.connection.execute("RESET max_parallel_workers_per_gather")
    finding.tables.append(table)
    by_reader, _, frozen = wal.values()
    if await run.connection.fetchval("SHOW data_checksums") == "on":  # else nobody logs hint bits
        finding.at_least("WAL when a reader comes first over VACUUM (FREEZE) first", [by_reader / frozen], 1.2)
    await variants.drop(run, made)


def _told(costs: list[Costs], events: int) -> list[float]:
    return [figure for cost in costs for figure in (cost.seconds / events * 1e6, cost.wal / events)]


async def _steps(run: Run, finding: Finding, source: rows.Source) -> None:
    """Freeze once and late, in steps but late, and in steps at once: before the next checkpoint comes."""
    ways = {
        _LATE: await _vacuumed(run, finding, source, 1, _FREEZE, late=True),
        _LATE_STEPS: await _vacuumed(run, finding, source, _STEPS, _FREEZE, late=True),
        _UNFROZEN: await _vacuumed(run, finding, source, _STEPS, _VACUUM, late=False),
        _AT_ONCE: await _vacuumed(run, finding, source, _STEPS, _FREEZE, late=False),
    }
    finding.tables.append(
        Table(
            f"Freezing {source.base:,} events: µs and bytes of WAL an event",
            ["", "VACUUM, µs", "WAL", "VACUUM (FREEZE) later, µs", "WAL", "WAL of both"],
            [
                [way, *_told(list(costs), source.base), sum(cost.wal for cost in costs) / source.base]
                for way, costs in ways.items()
            ],
        )
    )
    wal = {way: sum(cost.wal for cost in costs) for way, costs in ways.items()}
    finding.at_most("WAL of freezing late, in steps over once", [wal[_LATE_STEPS] / wal[_LATE]], 1.1)
    finding.at_least("WAL of freezing late over at once", [wal[_LATE] / wal[_AT_ONCE]], 2)
    finding.at_least(
        "WAL of VACUUM at once and freezing later over freezing at once", [wal[_UNFROZEN] / wal[_AT_ONCE]], 2
    )


async def _vacuumed(
    run: Run, finding: Finding, source: rows.Source, steps: int, vacuum: str, *, late: bool
) -> tuple[Costs, Costs]:
    """Append in steps, each with a VACUUM; returns what these took, and what freezing what is left takes later.

    Late means that a checkpoint lies in between, so that a page's first change writes the whole page to the WAL.
    """
    one = (await variants.make(run, source, finding.name, [Variant(SHIPPED)], fill=False))[SHIPPED]
    costs = []
    for number in range(steps):
        run.tell(f"{finding.name}: VACUUM after part {number + 1} of {steps}")
        after, to = (source.base * part // steps for part in (number, number + 1))
        await run.connection.execute(one.insert(after, to))
        if late:
            await run.connection.execute("CHECKPOINT")
        costs.append(await run.costs(vacuum.format(table=one.table)))
    await run.connection.execute("CHECKPOINT")
    later = await run.costs(_FREEZE.format(table=one.table))
    await variants.drop(run, {SHIPPED: one})
    return Costs(sum(cost.seconds for cost in costs), sum(cost.wal for cost in costs)), later


async def _look_ups(run: Run, finding: Finding, source: rows.Source) -> None:
    """Look known ids up, which the index alone answers where a page is all-visible."""
    visible, never = "every page all-visible", "never vacuumed"
    made = await variants.make(run, source, finding.name, [Variant(visible), Variant(never)])
    await run.connection.execute(_FREEZE.format(table=made[visible].table))
    await run.connection.execute(f"ANALYZE {made[visible].table}, {made[never].table}")
    found = await run.interleave(
        f"{finding.name}, look-ups", {name: _looking_up(run, one) for name, one in made.items()}
    )
    finding.samples["µs to find a known id"] = found
    finding.tables.append(
        Table(
            "Finding a known id in the index alone, as a repeated import does: µs a look-up",
            ["", "µs"],
            [[name, spread(found[name])] for name in made],
        )
    )
    await variants.drop(run, made)


def _looking_up(run: Run, one: Made) -> Subject:
    number = min(_IDS, one.rows.base // 97)
    block = _KNOWN.format(source=one.rows.name, table=one.table, last=one.rows.base, number=number)

    async def subject() -> float:
        return (await run.costs(block)).seconds / max(number, 1) * 1e6

    return subject
