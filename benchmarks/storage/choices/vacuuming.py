"""Autovacuum of a hot table: whether settings of its own keep it smaller than the server's do.

The largest rows that change are saved at a steady pace into three tables side by side, while autovacuum works as the
server has it. What differs are the tables' settings; what is compared is the most that each took at any time.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks.storage.choices.hot import HOT, making
from benchmarks.storage.run import Finding, Table, spread

if TYPE_CHECKING:
    from benchmarks.storage.run import Run

_SAVED: Final = HOT[-1]
"""Snapshots of 8 KB: they are in TOAST, which only VACUUM cleans."""

_A_SECOND: Final = 100
"""Saves a second into each table."""

_SECONDS: Final = 60.0
"""Of a round in a run of full size: autovacuum looks once a minute by default."""

_SHIPPED: Final = "the server's, as shipped"
_VARIANTS: Final = {
    _SHIPPED: "",
    "at 1 % instead of 20 %": "toast.autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_scale_factor = 0.01",
    "at 1 %, and without pauses": (
        "toast.autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_scale_factor = 0.01, "
        "toast.autovacuum_vacuum_cost_delay = 0, autovacuum_vacuum_cost_delay = 0"
    ),
}
_VACUUMED: Final = """
SELECT coalesce(sum(pg_stat_get_autovacuum_count(oid)), 0)::bigint FROM (
    SELECT reltoastrelid AS oid FROM pg_class WHERE oid = $1::text::regclass
) toast
"""


async def measure(run: Run) -> Finding:
    """Save at a steady pace for some minutes, and look how large each table gets."""
    finding = Finding("vacuuming", "Autovacuum of a table whose rows change")
    rows = min(_SAVED.rows, max(run.events // 100, 1))
    seconds = max(_SECONDS * min(run.events / 1_000_000, 1.0), 0.2)
    names = {name: f"variants.vacuumed_{number}" for number, name in enumerate(_VARIANTS)}
    for name, settings in _VARIANTS.items():
        for statement in making(_SAVED, names[name], f"fillfactor = {_SAVED.shipped}", rows):
            await run.connection.execute(statement)
        if settings:
            await run.connection.execute(f"ALTER TABLE {names[name]} SET ({settings})")
    largest: dict[str, list[float]] = {name: [] for name in names}
    saving = [asyncio.create_task(_save(run.dsn, table, rows, seconds * run.rounds)) for table in names.values()]
    try:
        for number in range(1, run.rounds + 1):
            run.tell(f"{finding.name}, round {number} of {run.rounds}")
            for name, size in (await _most(run.connection, names, seconds)).items():
                largest[name].append(size)
        saves = dict(zip(names, await asyncio.gather(*saving), strict=True))
    finally:
        for task in saving:
            task.cancel()
    table = Table(
        f"`snapshots`, {rows:,} of 8 KB, saved {_A_SECOND} times a second: the most that the table and its TOAST took "
        f"in {run.rounds} times {seconds:.0f} s",
        ["autovacuum", "MiB", "at the end, MiB", "saves", "autovacuums"],
        [],
    )
    for name, made in names.items():
        took, vacuumed = await _size(run.connection, made), await run.connection.fetchval(_VACUUMED, made)
        table.rows.append([name, spread(largest[name]), took, saves[name], str(vacuumed)])
        await run.connection.execute(f"DROP TABLE {made}")
    finding.tables.append(table)
    finding.samples["MiB at the most"] = largest
    for name in list(_VARIANTS)[1:]:
        finding.at_least(
            f"the most that it took, autovacuum {name} over as shipped",
            [max(largest[name]) / max(largest[_SHIPPED])],
            0.8,
        )
    return finding


async def _save(dsn: str, table: str, rows: int, seconds: float) -> int:
    """Save at the pace, on a connection of its own; returns how often."""
    connection = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
    try:
        began, saved = time.monotonic(), 0
        while (passed := time.monotonic() - began) < seconds:
            if saved >= passed * _A_SECOND:
                await asyncio.sleep(1 / _A_SECOND)
                continue
            number = 1 + saved * 7919 % rows
            await connection.execute(
                f"DO $$ DECLARE n integer := {number}; BEGIN UPDATE {table} SET {_SAVED.change}; END $$"  # noqa: S608 - ours
            )
            saved += 1
        return saved
    finally:
        await connection.close()


async def _most(connection: Any, names: dict[str, str], seconds: float) -> dict[str, float]:
    """Return the most, in MiB, that each table took within some seconds."""
    most, until = dict.fromkeys(names, 0.0), time.monotonic() + seconds
    while time.monotonic() < until:
        for name, table in names.items():
            most[name] = max(most[name], await _size(connection, table))
        await asyncio.sleep(min(1.0, seconds / 4))
    return most


async def _size(connection: Any, table: str) -> float:
    size: int = await connection.fetchval("SELECT pg_table_size($1::text::regclass)", table)
    return size / 1024 / 1024
