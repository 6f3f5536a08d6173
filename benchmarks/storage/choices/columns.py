"""The order of the columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table, ratios
from benchmarks.storage.scanning import scanning
from benchmarks.storage.variants import SHIPPED, Variant

if TYPE_CHECKING:
    from benchmarks.storage.run import Run

_FIXED: Final = f"{SHIPPED}: fixed widths first, by alignment"
_MEANING: Final = "in the order of their meaning"
_BY_MEANING: Final = """
CREATE TABLE {table} (
    stream_id       text        COLLATE "C" NOT NULL,
    stream_version  bigint      NOT NULL,
    event_id        uuid        NOT NULL,
    event_type      text        COLLATE "C" NOT NULL,
    schema_version  integer     NOT NULL,
    data            json        NOT NULL,
    metadata        json,
    correlation_id  text,
    causation_id    text,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    global_position bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    UNIQUE (stream_id, stream_version),
    UNIQUE ({key}),
    CHECK (stream_version > 0),
    CHECK (schema_version > 0)
)
"""
_VARIANTS: Final = [Variant(_FIXED), Variant(_MEANING, definition=_BY_MEANING)]
_READ: Final = "max(global_position), max(recorded_at), max(schema_version), sum(length(data::text))"


async def measure(run: Run) -> Finding:
    """Measure what padding costs, and what finding a column behind others of unknown width does."""
    finding = Finding("columns", "The order of the columns")
    sized, wal = {}, {}
    for name, told in ((rows.DEPOSITS_SET, "deposits"), (rows.LOANS_SET, "loan applications")):
        made_of = await rows.source(run, name)
        made = await variants.make(run, made_of, finding.name, _VARIANTS)
        growing = await variants.append_rounds(run, f"{finding.name}, {told}", made)
        read = await run.interleave(
            f"{finding.name}, {told}, reading", {key: scanning(run, one, _READ) for key, one in made.items()}
        )
        finding.samples |= {f"µs an event, {told}": growing, f"µs to read an event, {told}": read}
        for key, one in made.items():
            sized[told, key] = (await variants.sizes(run, one)).heap
            wal[told, key] = one.wal_in_a_row
        finding.tables.append(
            Table(
                f"{told.capitalize()}, {made_of.events:,} events",
                ["", "table, bytes an event", "WAL, bytes an event", "appending, µs", "reading on the server, µs"],
                [
                    [key, sized[told, key], wal[told, key], variants.middle(growing, key), variants.middle(read, key)]
                    for key in made
                ],
            )
        )
        finding.at_least(
            f"{told}: the table in the order of meaning over as shipped",
            [sized[told, _MEANING] / sized[told, _FIXED]],
            1.0,
        )
        finding.at_most(
            f"{told}: time of an append, as shipped over the order of meaning", ratios(growing, _FIXED, _MEANING), 1.15
        )
        await variants.drop(run, made)
    return finding
