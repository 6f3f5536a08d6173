"""How large payloads are compressed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table, ratios
from benchmarks.storage.scanning import scanning
from benchmarks.storage.variants import SHIPPED, Variant

if TYPE_CHECKING:
    from benchmarks.storage.run import Run

_PGLZ: Final = f"{SHIPPED}: the server's default, pglz"
_LZ4: Final = "lz4"
_NONE: Final = "not compressed"
_PGLZ_VARIANT: Final = Variant(_PGLZ, ("ALTER TABLE {table} ALTER COLUMN data SET COMPRESSION pglz",))
_LZ4_VARIANT: Final = Variant(_LZ4, ("ALTER TABLE {table} ALTER COLUMN data SET COMPRESSION lz4",))
_NONE_VARIANT: Final = Variant(_NONE, ("ALTER TABLE {table} ALTER COLUMN data SET STORAGE EXTERNAL",))


async def measure(run: Run) -> Finding:
    """Measure size, appending and reading of payloads of 4 KiB; smaller ones than 2 KB are never compressed."""
    finding = Finding("compression", "Compression of large payloads")
    documents = await rows.source(run, rows.DOCUMENTS_SET)
    offered = await run.connection.fetchval("SELECT enumvals FROM pg_settings WHERE name = 'default_toast_compression'")
    has_lz4 = "lz4" in offered
    tried = [_PGLZ_VARIANT, *([_LZ4_VARIANT] if has_lz4 else []), _NONE_VARIANT]
    made = await variants.make(run, documents, finding.name, tried)
    growing = await variants.append_rounds(run, finding.name, made)
    read = await run.interleave(
        f"{finding.name}, reading", {key: scanning(run, one, "sum(length(data::text))") for key, one in made.items()}
    )
    size = {key: await variants.sizes(run, one) for key, one in made.items()}
    finding.samples = {"µs an event": growing, "µs to read an event": read}
    length = await run.connection.fetchval(f"SELECT avg(octet_length(data))::integer FROM source.{documents.name}")  # noqa: S608 - our own name
    finding.tables.append(
        Table(
            f"Documents of {length:,} bytes, {documents.events:,} events",
            ["", "table, bytes an event", "TOAST", "WAL, bytes an event", "appending, µs", "reading as text, µs"],
            [
                [
                    key,
                    size[key].heap,
                    size[key].toast,
                    one.wal_in_a_row,
                    variants.middle(growing, key),
                    variants.middle(read, key),
                ]
                for key, one in made.items()
            ],
        )
    )
    finding.at_most("size compressed over not compressed", [size[_PGLZ].total / size[_NONE].total], 0.6)
    if has_lz4:
        finding.at_most("time of an append, lz4 over pglz", ratios(growing, _LZ4, _PGLZ), 0.9)
    else:
        finding.notes.append("This server was built without lz4.")
    await variants.drop(run, made)
    return finding
