"""Whether the log has an index by category."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table
from benchmarks.storage.variants import SHIPPED, Made, Variant
from eventstore.db.queries import Queries
from eventstore.store.reading import PAGE

if TYPE_CHECKING:
    from benchmarks.results import Samples
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Run

_NONE: Final = f"{SHIPPED}: no index"
_INDEXED: Final = "index (category, position)"
_VARIANTS: Final = [
    Variant(_NONE),
    Variant(_INDEXED, ("CREATE INDEX ON {table} (eventstore.category_of(stream_id), global_position)",)),
]
_CATEGORIES: Final = {"1 %": "audit", "10 %": "transfer", "89 %": "account"}
"""Which share of the events is in which category."""
_WINDOW: Final = 200_000
_BY_INDEX: Final = """
SELECT true, global_position, stream_id, stream_version, event_id, event_type, schema_version, data::text,
       metadata::text, correlation_id, causation_id, occurred_at, recorded_at
  FROM {table}
 WHERE eventstore.category_of(stream_id) = $1 AND global_position > $2 AND global_position <= $3
 ORDER BY global_position
 LIMIT $4
"""


async def measure(run: Run) -> Finding:
    """Measure what the index costs an append, and what reading one category costs with and without it."""
    finding = Finding("categories", "An index by category")
    deposits = await rows.source(run, rows.DEPOSITS_SET)
    window = min(_WINDOW, deposits.base)
    made = await variants.make(run, deposits, finding.name, _VARIANTS)
    growing = await variants.append_rounds(run, finding.name, made)
    sized = {name: await variants.sizes(run, one) for name, one in made.items()}
    read = await _reads(run, made, window)
    finding.samples = {"µs an event": growing, f"ms to read {window:,} positions": read}
    finding.tables += [
        Table(
            f"Deposits, {deposits.events:,} events: what an append pays",
            ["", "index, bytes an event", "all, bytes an event", "WAL", "WAL after a checkpoint", "appending, µs"],
            [
                [
                    name,
                    next((size for columns, size in sized[name].indexes.items() if "category" in columns), None),
                    sized[name].total,
                    one.wal_in_a_row,
                    variants.wal_median(one),
                    variants.middle(growing, name),
                ]
                for name, one in made.items()
            ],
        ),
        Table(
            f"Reading one category of {window:,} events, in pages of {PAGE:,}: milliseconds",
            ["", *(f"{share} of the events" for share in _CATEGORIES)],
            [[name, *(variants.middle(read, f"{name}, {share}") for share in _CATEGORIES)] for name in made],
        ),
    ]
    finding.at_least(
        "WAL of an append with the index over without", [made[_INDEXED].wal_in_a_row / made[_NONE].wal_in_a_row], 1.03
    )
    finding.at_least("size with the index over without", [sized[_INDEXED].total / sized[_NONE].total], 1.03)
    finding.at_most(
        "microseconds for each event that is looked at in vain",
        [milliseconds * 1000 / window for milliseconds in read[f"{_NONE}, 1 %"]],
        5,
    )
    await variants.drop(run, made)
    return finding


async def _reads(run: Run, made: dict[str, Made], window: int) -> Samples:
    subjects: dict[str, Subject] = {}
    for one in made.values():
        await run.connection.execute(f"VACUUM (ANALYZE) {one.table}")
    for share, category in _CATEGORIES.items():
        subjects[f"{_NONE}, {share}"] = _filtering(run, made[_NONE], category, window)
        subjects[f"{_INDEXED}, {share}"] = _by_index(run, made[_INDEXED], category, window)
    return await run.interleave("categories, reading", subjects)


def _filtering(run: Run, one: Made, category: str, window: int) -> Subject:
    """Read as the framework does: by the query of `read_all`."""
    query = Queries("eventstore")["read_all"].replace('"eventstore".events', one.table)

    async def page(after: int) -> list[Any]:
        anything_else = [None] * 4
        found: list[Any] = await run.connection.fetch(query, after, window, PAGE, [category], *anything_else)
        return found

    async def subject() -> float:
        began, after = time.perf_counter(), 0
        while after < window:
            after = (await page(after))[-1]["global_position"]  # the last one looked at always comes
        return (time.perf_counter() - began) * 1000

    return subject


def _by_index(run: Run, one: Made, category: str, window: int) -> Subject:
    query = _BY_INDEX.format(table=one.table)

    async def subject() -> float:
        began, after = time.perf_counter(), 0
        while found := await run.connection.fetch(query, category, after, window, PAGE):
            after = found[-1]["global_position"]
            if len(found) < PAGE:
                break
        return (time.perf_counter() - began) * 1000

    return subject
