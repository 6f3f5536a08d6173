"""The log's table in variants: the shipped definition, and what one choice changes in it.

A variant is made by LIKE from the migrated table, so that it follows the migrations. It has no triggers: they cost all
variants the same. It is not vacuumed while it is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.storage.run import BATCH, Costs, spread

if TYPE_CHECKING:
    from benchmarks.results import Samples
    from benchmarks.rounds import Subject
    from benchmarks.storage.rows import Source
    from benchmarks.storage.run import Run

SHIPPED: Final = "as shipped"
_NOTHING: Final = Costs(0, 0)
_LIKE: Final = "CREATE TABLE {table} (LIKE eventstore.events INCLUDING ALL)"
_VALUES: Final = {
    "stream_id": "stream_id",
    "stream_version": "stream_version",
    "event_id": "event_id",
    "event_type": "event_type",
    "schema_version": "schema_version",
    "data": "data::json",
    "metadata": "metadata::json",
    "correlation_id": "correlation_id",
    "causation_id": "causation_id",
    "occurred_at": "occurred_at",
    "recorded_at": "recorded_at",
}
_KEY: Final = """
SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k)
  FROM pg_index i
  JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = 'event_id' AND a.attnum = ANY (i.indkey)
 CROSS JOIN LATERAL generate_series(1, i.indnkeyatts) AS k
 WHERE i.indrelid = 'eventstore.events'::regclass AND i.indisunique
"""
_SIZES: Final = """
SELECT pg_relation_size(c.oid) AS heap, coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast
  FROM pg_class c WHERE c.oid = $1::text::regclass
"""
_INDEXES: Final = """
SELECT i.indexrelid AS oid, pg_relation_size(i.indexrelid) AS size, (
        SELECT string_agg(pg_get_indexdef(i.indexrelid, k, true), ', ' ORDER BY k)
          FROM generate_series(1, i.indnkeyatts) AS k
       ) AS columns
  FROM pg_index i WHERE i.indrelid = $1::text::regclass ORDER BY i.indexrelid
"""


@dataclass(frozen=True, slots=True)
class Variant:
    """One way to define the log's table.

    Attributes:
        name: What it is called on the page.
        changes: What is done to the shipped definition; `{table}` is the table.
        definition: A definition in its place; `{key}` is the shipped key of event ids, and `{numbered_key}` the same
            for streams that are numbers.
        values: Columns that get something else than the shipped one, or, with None, are not there.
    """

    name: str
    changes: tuple[str, ...] = ()
    definition: str = _LIKE
    values: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bytes of a table's parts, for an event; indexes by their columns, with the share of their leaves that is full."""

    heap: float
    toast: float
    indexes: Mapping[str, float]
    density: Mapping[str, float]

    @property
    def total(self) -> float:
        """All of it."""
        return self.heap + self.toast + sum(self.indexes.values())


@dataclass(slots=True)
class Made:
    """A variant that is there.

    Attributes:
        table: Its name.
        rows: What it gets.
        filled: What the log before the rounds took: WAL of a log that grows without a checkpoint in between.
        wal: Bytes of WAL for an event in each round, which begins right after a checkpoint.
    """

    variant: Variant
    table: str
    rows: Source
    filled: Costs = _NOTHING
    wal: list[float] = field(default_factory=list)

    @property
    def wal_in_a_row(self) -> float:
        """Bytes of WAL for an event as long as no checkpoint comes."""
        return self.filled.wal / self.rows.base

    def insert(self, after: int, to: int) -> str:
        """Return the block that appends rows in batches, each with its commit."""
        values = {column: value for column, value in {**_VALUES, **self.variant.values}.items() if value is not None}
        return (
            f"DO $$ BEGIN FOR done IN {after}..{to - 1} BY {BATCH} LOOP "  # noqa: S608 - our own names
            f"INSERT INTO {self.table} ({', '.join(values)}) SELECT {', '.join(values.values())} "
            f"FROM source.{self.rows.name} WHERE n > done AND n <= least(done + {BATCH}, {to}) ORDER BY n; "
            "COMMIT; END LOOP; END $$"
        )


async def shipped_key(run: Run) -> str:
    """Return the columns that make an event id unique in the shipped definition."""
    key: str = await run.connection.fetchval(_KEY)
    return key


async def make(run: Run, rows: Source, choice: str, variants: list[Variant], *, fill: bool = True) -> dict[str, Made]:
    """Make the tables and fill them with all but what the rounds append."""
    await run.connection.execute("CREATE SCHEMA IF NOT EXISTS variants")
    made = {}
    key = await shipped_key(run)
    numbered_key = key.replace("stream_id", "stream_number")
    for number, variant in enumerate(variants):
        run.tell(f"{choice}, {rows.name}: filling {variant.name}")
        table = f"variants.v{number}"
        for statement in (
            f"DROP TABLE IF EXISTS {table}",
            variant.definition.format(table=table, key=key, numbered_key=numbered_key),
            f"ALTER TABLE {table} SET (autovacuum_enabled = off)",
            *(change.format(table=table) for change in variant.changes),
            "CHECKPOINT",
        ):
            await run.connection.execute(statement)
        one = made[variant.name] = Made(variant, table, rows)
        if fill:
            one.filled = await run.costs(one.insert(0, rows.base))
    return made


async def drop(run: Run, made: Mapping[str, Made]) -> None:
    """Drop the tables."""
    for one in made.values():
        await run.connection.execute(f"DROP TABLE {one.table}")


async def append_rounds(run: Run, choice: str, made: Mapping[str, Made], *, old: bool = False) -> Samples:
    """Append in rounds, each right after a checkpoint; returns microseconds an event.

    Args:
        run: The run.
        choice: Its name.
        made: The tables.
        old: Append to streams drawn from the whole log instead of to those that grow just now.
    """

    def appending(one: Made) -> Subject:
        numbers = iter(range(run.rounds + 1))
        one.wal = []

        async def subject() -> float:
            number = next(numbers)
            after, to = one.rows.old(number) if old else one.rows.taken(number)
            await run.connection.execute("CHECKPOINT")
            costs = await run.costs(one.insert(after, to))
            if number > 0:
                one.wal.append(costs.wal / one.rows.slice)
            return costs.seconds / one.rows.slice * 1e6

        return subject

    which = "old streams" if old else "streams that grow"
    return await run.interleave(f"{choice}, {which}", {name: appending(one) for name, one in made.items()})


async def sizes(run: Run, one: Made) -> Sizes:
    """Return what a table takes for an event."""
    count = await run.connection.fetchval(f"SELECT count(*) FROM {one.table}")  # noqa: S608 - our own name
    parts = await run.connection.fetchrow(_SIZES, one.table)
    indexes = await run.connection.fetch(_INDEXES, one.table)
    dense = {}
    if await run.has_extension("pgstattuple"):
        for index in indexes:
            density = await run.connection.fetchval(
                "SELECT avg_leaf_density FROM pgstatindex($1::oid::regclass)", index["oid"]
            )
            dense[f"({index['columns']})"] = density / 100
    return Sizes(
        parts["heap"] / count,
        parts["toast"] / count,
        {f"({index['columns']})": index["size"] / count for index in indexes},
        dense,
    )


def middle(samples: Samples, name: str) -> str:
    """Return a subject's median with its spread."""
    return spread(samples[name])


def wal_ratios(made: Mapping[str, Made], over: str, under: str) -> list[float]:
    """Return the ratio of WAL bytes of two variants in each round."""
    return [a / b for a, b in zip(made[over].wal, made[under].wal, strict=True)]


def wal_median(one: Made) -> float:
    """Return the bytes of WAL for an event right after a checkpoint."""
    return median(one.wal)
