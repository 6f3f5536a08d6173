"""The type of payloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table, ratios
from benchmarks.storage.scanning import scanning
from benchmarks.storage.variants import SHIPPED, Variant

if TYPE_CHECKING:
    from benchmarks.storage.run import Run

_JSON: Final = f"{SHIPPED}: json"
_JSONB: Final = "jsonb"
_TEXT: Final = "text"


def _typed(name: str) -> Variant:
    change = f"ALTER TABLE {{table}} ALTER COLUMN data TYPE {name}, ALTER COLUMN metadata TYPE {name}"
    return Variant(name, (change,), values={"data": f"data::{name}", "metadata": f"metadata::{name}"})


_VARIANTS: Final = [Variant(_JSON), _typed(_JSONB), _typed(_TEXT)]


async def measure(run: Run) -> Finding:
    """Measure size, appending and reading as text."""
    finding = Finding("payloads", "`json`, `jsonb` or `text` for payloads")
    for name, told in ((rows.DEPOSITS_SET, "deposits"), (rows.LOANS_SET, "loan applications")):
        made_of = await rows.source(run, name)
        made = await variants.make(run, made_of, finding.name, _VARIANTS)
        growing = await variants.append_rounds(run, f"{finding.name}, {told}", made)
        read = await run.interleave(
            f"{finding.name}, {told}, reading",
            {
                key: scanning(run, one, "sum(length(data::text)), sum(length(metadata::text))")
                for key, one in made.items()
            },
        )
        heaps = {key: (await variants.sizes(run, one)).heap for key, one in made.items()}
        finding.samples |= {f"µs an event, {told}": growing, f"µs to read an event, {told}": read}
        finding.tables.append(
            Table(
                f"{told.capitalize()}, {made_of.events:,} events",
                ["", "table, bytes an event", "WAL, bytes an event", "appending, µs", "reading as text, µs"],
                [
                    [key, heaps[key], one.wal_in_a_row, variants.middle(growing, key), variants.middle(read, key)]
                    for key, one in made.items()
                ],
            )
        )
        finding.at_least(f"{told}: the table with jsonb over json", [heaps[_JSONB] / heaps[_JSON]], 1.0)
        finding.at_least(f"{told}: reading jsonb as text over json", ratios(read, _JSONB, _JSON), 1.2)
        finding.at_most(f"{told}: time of an append, json over text", ratios(growing, _JSON, _TEXT), 1.25)
        await variants.drop(run, made)
    return finding
