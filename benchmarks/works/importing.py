"""Moving a system in."""

from __future__ import annotations

import importlib
import json
import time
from typing import TYPE_CHECKING, Any

import asyncpg

from benchmarks import ours, raw
from benchmarks.results import OURS, Row

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.context import Context
    from eventstore import EventStore

COPY = "asyncpg, copy_records_to_table"


async def import_with_ours(store: EventStore, file: Path) -> None:
    """Import a file of JSON Lines: THE ADAPTER TO COMPLETE when `eventstore.bulk` is there.

    Raises:
        ImportError: It is not there.
    """
    bulk: Any = importlib.import_module("eventstore.bulk")
    await bulk.import_events(store, file)


async def measure(context: Context) -> Row:
    """Measure the import of a file against COPY of the same rows, ready in memory; each into an empty database."""
    number = context.sizes.imported
    row = Row("import", f"bulk import of {number:,} events", "events/s", lower_is_better=False)
    records = list(raw.rows(number))
    file = context.directory / "import.jsonl"
    _write(file, records)

    async def by_ours() -> float:
        async with context.databases.fresh() as dsn, ours.opened(dsn) as store:
            began = time.perf_counter()
            await import_with_ours(store, file)
            return number / (time.perf_counter() - began)

    async def by_copy() -> float:
        async with context.databases.fresh() as dsn:
            connection = await asyncpg.connect(dsn)
            try:
                began = time.perf_counter()
                await raw.copy(connection, records)
                return number / (time.perf_counter() - began)
            finally:
                await connection.close()

    subjects = {OURS: by_ours, COPY: by_copy}
    try:
        importlib.import_module("eventstore.bulk")
    except ImportError:
        row.missing[OURS] = "this version has no bulk import"
        del subjects[OURS]
    await context.run(row, subjects)
    row.compare(f"over {COPY} into the same indexed table", "COPY", OURS, COPY, at_least=0.6)
    row.notes.append("The import reads, checks and encodes a file of JSON Lines; COPY is given finished rows.")
    return row


def _write(file: Path, records: list[tuple[Any, ...]]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for stream_id, version, event_id, event_type, schema_version, data, *_, occurred_at, _recorded in records:
            line = {
                "stream_id": stream_id,
                "stream_version": version,
                "event_id": str(event_id),
                "event_type": event_type,
                "schema_version": schema_version,
                "data": json.loads(data),
                "occurred_at": occurred_at.isoformat(),
            }
            lines.write(json.dumps(line) + "\n")
