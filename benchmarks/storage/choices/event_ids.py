"""What makes an event's id unique, and what that costs."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table, ratios
from benchmarks.storage.variants import Made, Variant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results import Samples
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Cell, Run
    from benchmarks.storage.variants import Sizes

_DROP: Final = """
DO $$
DECLARE key text := (SELECT conname FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attname = 'event_id'
                      WHERE conrelid = '{table}'::regclass AND contype = 'u' AND attnum = ANY (conkey));
BEGIN
    EXECUTE format('ALTER TABLE {table} DROP CONSTRAINT %I', key);
END $$
"""
_STREAM_FIRST: Final = "unique (stream_id, event_id)"
_ID_FIRST: Final = "unique (event_id, stream_id)"
_ID_ALONE: Final = "unique (event_id)"
_RANDOM_IDS: Final = ", random ids (UUIDv4)"
_NONE: Final = "no index"
_GROWING_WAL: Final = "WAL bytes an event, streams that grow, after a checkpoint"


def _keyed(name: str) -> Variant:
    return Variant(
        name,
        (_DROP, f"ALTER TABLE {{table}} ADD {name.removesuffix(_RANDOM_IDS)}"),
        values={"event_id": "random_id"} if name.endswith(_RANDOM_IDS) else {},
    )


_VARIANTS: Final = [
    *(_keyed(key + ids) for key in (_STREAM_FIRST, _ID_FIRST, _ID_ALONE) for ids in ("", _RANDOM_IDS)),
    Variant(_NONE, (_DROP,)),
]
_LOOK_UPS: Final = """
DO $$
DECLARE streams text[] := ARRAY[{streams}];
        ids uuid[] := ARRAY(SELECT gen_random_uuid() FROM generate_series(1, cardinality(streams)));
BEGIN
    SET LOCAL enable_seqscan = off;
    SET LOCAL plan_cache_mode = force_generic_plan;
    FOR i IN 1 .. cardinality(streams) LOOP
        PERFORM FROM {table} WHERE stream_id = streams[i] AND event_id = ANY (ids[i : i]);
    END LOOP;
END $$
"""


async def measure(run: Run) -> Finding:
    """Measure what uniqueness costs when streams grow and when old ones do, and what looking an id up does."""
    finding = Finding("event-ids", "What makes an event id unique")
    deposits = await rows.source(run, rows.DEPOSITS_SET)
    made = await variants.make(run, deposits, finding.name, _VARIANTS)
    growing = await variants.append_rounds(run, finding.name, made)
    growing_wal = {name: list(one.wal) for name, one in made.items()}
    sized = {name: await variants.sizes(run, one) for name, one in made.items()}
    old = await variants.append_rounds(run, finding.name, made, old=True)
    found = await _look_ups(run, made)
    finding.samples = {
        "µs an event, streams that grow": growing,
        _GROWING_WAL: growing_wal,
        "µs an event, old streams": old,
        "WAL bytes an event, old streams, after a checkpoint": {name: one.wal for name, one in made.items()},
        "µs a look-up": found,
    }
    finding.tables += [
        _sizes(f"Deposits, {deposits.events:,} events", made, sized),
        Table(
            "Appending: µs an event; bytes of WAL an event while no checkpoint comes, and right after one",
            ["", "streams that grow, µs", "WAL", "WAL after a checkpoint", "old streams, µs", "WAL after a checkpoint"],
            [
                [
                    name,
                    variants.middle(growing, name),
                    one.wal_in_a_row,
                    median(growing_wal[name]),
                    variants.middle(old, name),
                    variants.wal_median(one),
                ]
                for name, one in made.items()
            ],
        ),
        Table(
            "Asking whether a stream has an id that it has not, µs",
            ["", "streams of 20 events", f"a stream of {deposits.events // 100:,} events"],
            [[name, *(variants.middle(found, f"{name}, {kind}") for kind in ("short", "long"))] for name in made],
        ),
    ]
    _conclude(finding, made, sized, growing, old)
    await variants.drop(run, made)
    await _loans(run, finding)
    finding.notes.append(f"Shipped is: unique ({await variants.shipped_key(run)}).")
    return finding


def _conclude(
    finding: Finding, made: Mapping[str, Made], sized: Mapping[str, Sizes], growing: Samples, old: Samples
) -> None:
    finding.at_least(
        "old streams: WAL of (stream_id, event_id) over (event_id, stream_id)",
        variants.wal_ratios(made, _STREAM_FIRST, _ID_FIRST),
        1.2,
    )
    finding.at_most(
        "streams that grow: time of (event_id, stream_id) over (stream_id, event_id)",
        ratios(growing, _ID_FIRST, _STREAM_FIRST),
        1.15,
    )
    finding.at_most(
        "old streams: time of (event_id, stream_id) over (stream_id, event_id)",
        ratios(old, _ID_FIRST, _STREAM_FIRST),
        1.15,
    )
    finding.at_most(
        "size of (event_id, stream_id) over (stream_id, event_id)",
        [sized[_ID_FIRST].indexes["(event_id, stream_id)"] / sized[_STREAM_FIRST].indexes["(stream_id, event_id)"]],
        1.0,
    )
    wal = finding.samples[_GROWING_WAL]
    finding.at_least(
        "random ids, streams that grow: WAL after a checkpoint of (event_id, stream_id) over (stream_id, event_id)",
        ratios(wal, _ID_FIRST + _RANDOM_IDS, _STREAM_FIRST + _RANDOM_IDS),
        1.5,
    )
    finding.at_most(
        "random ids, old streams: WAL after a checkpoint of (event_id, stream_id) over (stream_id, event_id)",
        variants.wal_ratios(made, _ID_FIRST + _RANDOM_IDS, _STREAM_FIRST + _RANDOM_IDS),
        1.1,
    )


async def _loans(run: Run, finding: Finding) -> None:
    loans = await rows.source(run, rows.LOANS_SET)
    made = await variants.make(run, loans, finding.name, _VARIANTS)
    growing = await variants.append_rounds(run, f"{finding.name}, loans", made)
    sized = {name: await variants.sizes(run, one) for name, one in made.items()}
    finding.samples["µs an event, loans"] = growing
    finding.tables.append(_sizes(f"Loan applications, {loans.events:,} real events", made, sized, growing))
    await variants.drop(run, made)


def _sizes(caption: str, made: Mapping[str, Made], sized: Mapping[str, Sizes], growing: Samples | None = None) -> Table:
    table = Table(
        f"{caption}: bytes an event",
        ["", "table", "index on position", "index on version", "index on id", "its leaves, full", "all"],
        [],
    )
    for name in made:
        size = sized[name]
        ids = next((columns for columns in size.indexes if "event_id" in columns), None)
        cells: list[Cell] = [
            name,
            size.heap,
            size.indexes["(global_position)"],
            size.indexes["(stream_id, stream_version)"],
            size.indexes[ids] if ids else None,
            f"{size.density[ids]:.0%}" if ids and ids in size.density else None,
            size.total,
        ]
        table.rows.append(cells + ([made[name].wal_in_a_row, variants.middle(growing, name)] if growing else []))
    if growing:
        table.columns += ["WAL", "appending, µs an event"]
    return table


async def _look_ups(run: Run, made: Mapping[str, Made]) -> Samples:
    subjects: dict[str, Subject] = {}
    for name, one in made.items():
        await run.connection.execute(f"ANALYZE {one.table}")
        for kind, number in (("short", 1_000), ("long", 50)):
            subjects[f"{name}, {kind}"] = _looking_up(run, one, kind, number)
    return await run.interleave("event-ids, look-ups", subjects)


def _looking_up(run: Run, one: Made, kind: str, number: int) -> Subject:
    is_long = f"stream_id = '{rows.LONG_STREAM}'"
    which = is_long if kind == "long" else f"NOT {is_long}"
    streams = f"SELECT stream_id FROM {one.table} WHERE {which} LIMIT {number}"  # noqa: S608 - our own names

    async def subject() -> float:
        ids = [record["stream_id"] for record in await run.connection.fetch(streams)]
        listed = ", ".join(f"'{stream_id}'" for stream_id in ids)
        costs = await run.costs(_LOOK_UPS.format(table=one.table, streams=listed))
        return costs.seconds / max(len(ids), 1) * 1e6

    return subject
