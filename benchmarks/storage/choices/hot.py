"""Tables whose rows are changed over and over: the fill factor, and what happens without VACUUM.

Nothing is vacuumed while it is measured: what a table grows to then is the worst that can happen between two rounds of
autovacuum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import asyncpg

from benchmarks.storage.run import Finding, Table, ratios, spread

if TYPE_CHECKING:
    from benchmarks.results import Samples
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Cell, Run

_BESIDE: Final = 10
"""Beside an old snapshot, a tenth of the changes is enough to see it."""


@dataclass(frozen=True, slots=True)
class Hot:
    """A table that is hot.

    Attributes:
        table: Its name in the schema.
        told: What its rows are in this measurement.
        rows: How many there are, for 100,000 changes.
        fill: What inserts them: `n` is the number.
        change: What changes the row `n`; as the framework's query does it.
        shipped: The fill factor of the migrations.
    """

    table: str
    told: str
    rows: int
    fill: str
    change: str
    shipped: int


_STATE: Final = "repeat(md5((n * 7919 + {salt})::text), {times})"
HOT: Final = (
    Hot(
        "checkpoints",
        "a reader's",
        1,
        "(name, global_position) SELECT 'reader-' || n, 0",
        "global_position = global_position + 1, event_id = gen_random_uuid(), updated_at = clock_timestamp() "
        "WHERE name = 'reader-' || n",
        50,
    ),
    Hot(
        "checkpoints",
        "those of 100 readers",
        100,
        "(name, global_position) SELECT 'reader-' || n, 0",
        "global_position = global_position + 1, event_id = gen_random_uuid(), updated_at = clock_timestamp() "
        "WHERE name = 'reader-' || n",
        50,
    ),
    Hot(
        "leases",
        "16",
        16,
        "(name, owner, expires_at) SELECT 'lease-' || n, 'worker', now()",
        "expires_at = clock_timestamp() + interval '3 s' WHERE name = 'lease-' || n AND owner = 'worker' AND epoch = 1",
        50,
    ),
    Hot(
        "kafka_streams",
        "10,000 streams",
        10_000,
        "(consumer, stream_id, stream_version) SELECT 'loans', 'application-' || n, 1",
        "stream_version = stream_version + 1 WHERE consumer = 'loans' AND stream_id = 'application-' || n",
        80,
    ),
    Hot(
        "snapshots",
        "10,000, of 600 bytes",
        10_000,
        f"(stream_id, fingerprint, stream_version, event_id, state) SELECT 'application-' || n, 'shape', 1, "
        f"gen_random_uuid(), {_STATE.format(salt=0, times=19)}",
        "stream_version = stream_version + 1, event_id = gen_random_uuid(), "
        f"state = {_STATE.format(salt='stream_version', times=19)}, taken_at = clock_timestamp() "
        "WHERE stream_id = 'application-' || n AND fingerprint = 'shape'",
        80,
    ),
    Hot(
        "snapshots",
        "1,000, of 8 KB",
        1_000,
        "(stream_id, fingerprint, stream_version, event_id, state) SELECT 'application-' || n, 'shape', 1, "
        "gen_random_uuid(), (SELECT string_agg(md5((n + i)::text), '') FROM generate_series(1, 250) AS i)",
        "stream_version = stream_version + 1, event_id = gen_random_uuid(), state = "
        "(SELECT string_agg(md5((n + stream_version + i)::text), '') FROM generate_series(1, 250) AS i), "
        "taken_at = clock_timestamp() WHERE stream_id = 'application-' || n AND fingerprint = 'shape'",
        80,
    ),
)
_PARTS: Final = """
SELECT pg_relation_size(c.oid) / 1024.0 AS heap, pg_indexes_size(c.oid) / 1024.0 AS indexes,
       coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) / 1024.0 AS toast,
       pg_stat_get_tuples_updated(c.oid) AS changed, pg_stat_get_tuples_hot_updated(c.oid) AS hot
  FROM pg_class c WHERE c.oid = $1::text::regclass
"""
"""Sizes in KiB, and how many changes left the indexes alone."""


async def measure(run: Run) -> Finding:
    """Change rows 100,000 times, and 10,000 times beside a transaction that has an old snapshot."""
    finding = Finding("hot-tables", "Fill factors of tables whose rows change")
    changes = max(run.events // 10, 100)
    await run.connection.execute("SET enable_seqscan = off")  # the framework's ON CONFLICT takes the index, always
    for hot in HOT:
        await _measure(run, finding, hot, changes)
    await _beside(run, finding, HOT[0], max(changes // _BESIDE, 100))
    await run.connection.execute("RESET enable_seqscan")
    finding.notes.append(
        "Every change is a transaction. Nothing is vacuumed: these are the sizes that a table grows to by itself."
    )
    return finding


def making(hot: Hot, table: str, settings: str, rows: int) -> list[str]:
    """Return the statements that make a table like the migrated one, with settings of its own, and fill it."""
    return [
        "CREATE SCHEMA IF NOT EXISTS variants",
        f"DROP TABLE IF EXISTS {table}",
        f"CREATE TABLE {table} (LIKE eventstore.{hot.table} INCLUDING ALL) WITH ({settings})",
        f"INSERT INTO {table} {hot.fill} FROM generate_series(1, {rows}) AS n",
        f"VACUUM (ANALYZE) {table}",
    ]


async def _measure(run: Run, finding: Finding, hot: Hot, changes: int) -> None:
    subjects: dict[str, Subject] = {}
    names, begun = {}, {}
    rows = min(hot.rows, max(changes // 10, 1))
    each = max(changes // run.rounds, 1)
    for factor in sorted({100, 80, 50, hot.shipped}, reverse=True):
        name = f"fillfactor {factor}{', as shipped' if factor == hot.shipped else ''}"
        names[name] = f"variants.{hot.table}_{factor}"
        begun[name] = await _make(run, hot, names[name], factor, rows)
        subjects[name] = _changing(run, hot, names[name], rows, each)
    took = await run.interleave(f"{finding.name}, {hot.table}", subjects, warm_up=False)
    await run.connection.execute("SELECT pg_stat_force_next_flush()")
    table = Table(
        f"`{hot.table}`, {hot.told}: {each * run.rounds:,} changes of {rows:,} rows",
        ["", "table, KiB", "before", "indexes, KiB", "TOAST, KiB", "indexes left alone", "a change, µs"],
        [],
    )
    for name, made in names.items():
        parts = await run.connection.fetchrow(_PARTS, made)
        cells: list[Cell] = [name, float(parts["heap"]), begun[name], float(parts["indexes"]), float(parts["toast"])]
        table.rows.append([*cells, f"{parts['hot'] / max(parts['changed'], 1):.1%}", spread(took[name])])
        await run.connection.execute(f"DROP TABLE {made}")
    finding.tables.append(table)
    finding.samples[f"µs a change, {hot.table}, {hot.told}"] = took
    shipped = next(name for name in names if name.endswith("shipped"))
    finding.at_most(
        f"{hot.table}, {hot.told}: time of a change, as shipped over fillfactor 100",
        ratios(took, shipped, "fillfactor 100"),
        1.2,
    )


async def _make(run: Run, hot: Hot, table: str, factor: int, rows: int) -> float:
    """Make and fill a table, and return its size in KiB."""
    settings = f"fillfactor = {factor}, autovacuum_enabled = off, toast.autovacuum_enabled = off"
    for statement in making(hot, table, settings, rows):
        await run.connection.execute(statement)
    size: int = await run.connection.fetchval("SELECT pg_relation_size($1::text::regclass)", table)
    return size / 1024


def _changing(run: Run, hot: Hot, table: str, rows: int, changes: int) -> Subject:
    """Return the subject that changes rows in an order that looks like chance; the figure is microseconds a change."""
    block = (
        f"DO $$ DECLARE n integer; BEGIN FOR step IN 1..{changes} LOOP "  # noqa: S608 - our own names
        f"n := 1 + (step::bigint * 7919 + step / {rows}) % {rows}; "
        f"UPDATE {table} SET {hot.change}; COMMIT; END LOOP; END $$"
    )

    async def subject() -> float:
        return (await run.costs(block)).seconds / changes * 1e6

    return subject


async def _beside(run: Run, finding: Finding, hot: Hot, changes: int) -> None:
    """Change one row while a transaction holds an old snapshot: nothing can be pruned, and each change finds more."""
    table, part = "variants.beside", max(changes // 10, 10)
    took: Samples = {"the first tenth": [], "the last tenth": []}
    shown = Table(
        f"`{hot.table}`, {hot.told}, beside an open snapshot: {changes:,} changes of one row",
        ["", "table, KiB", "indexes, KiB", "the first tenth, µs a change", "the last tenth"],
        [],
    )
    for factor in (100, hot.shipped):
        began: Samples = {"the first tenth": [], "the last tenth": []}
        for number in range(1, run.rounds + 1):
            run.tell(f"{finding.name}, beside a snapshot, fillfactor {factor}, round {number} of {run.rounds}")
            await _make(run, hot, table, factor, 1)
            first, rest = _changing(run, hot, table, 1, part), _changing(run, hot, table, 1, changes - 2 * part)
            other = await asyncpg.connect(run.dsn)
            try:
                async with other.transaction(isolation="repeatable_read"):
                    await other.fetchval("SELECT count(*) FROM eventstore.streams")  # takes the snapshot
                    began["the first tenth"].append(await first())
                    await rest()
                    began["the last tenth"].append(await first())
            finally:
                await other.close()
        parts = await run.connection.fetchrow(_PARTS, table)
        name = f"fillfactor {factor}{', as shipped' if factor == hot.shipped else ''}"
        shown.rows.append(
            [name, float(parts["heap"]), float(parts["indexes"]), *(spread(values) for values in began.values())]
        )
        took = began
        finding.samples[f"µs a change beside a snapshot, {name}"] = began
    await run.connection.execute(f"DROP TABLE {table}")
    finding.tables.append(shown)
    finding.at_least(
        "beside a snapshot: the last tenth over the first, as shipped",
        ratios(took, "the last tenth", "the first tenth"),
        1.2,
    )
