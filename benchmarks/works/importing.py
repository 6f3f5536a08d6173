"""Moving a system in."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from benchmarks import ours, raw
from benchmarks.domain import deposit
from benchmarks.results import OURS, Row
from eventstore import bulk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from benchmarks.context import Context
    from benchmarks.rounds import Subject

COPY: Final = "asyncpg, copy_records_to_table"
FROM_FILE: Final = f"{OURS}, from a file of JSON Lines"


async def measure(context: Context) -> Row:
    """Measure the import against COPY of the same rows, which are ready in memory; each into an empty database."""
    number = context.sizes.imported
    row = Row("import", f"bulk import of {number:,} events", "events/s", lower_is_better=False)
    records = list(raw.rows(number))
    file = context.directory / "import.jsonl"
    _write(file, records)

    def importing(source: Callable[[], Iterable[Any]]) -> Subject:
        async def subject() -> float:
            async with context.databases.fresh() as dsn, ours.opened(dsn) as store:
                events = source()
                began = time.perf_counter()
                await bulk.import_events(store, events, name="benchmark")
                return number / (time.perf_counter() - began)

        return subject

    async def by_copy() -> float:
        async with context.databases.fresh() as dsn:
            connection = await asyncpg.connect(dsn)
            try:
                began = time.perf_counter()
                await raw.copy(connection, records)
                return number / (time.perf_counter() - began)
            finally:
                await connection.close()

    subjects: dict[str, Subject] = {COPY: by_copy}
    models = _models(records)
    subjects |= {
        OURS: importing(lambda: models),
        FROM_FILE: importing(lambda: bulk.read_jsonl(file.read_bytes().splitlines())),
    }
    await context.run(row, subjects)
    row.compare(f"over {COPY} into the same indexed table", "COPY", OURS, COPY, at_least=0.6)
    row.notes.append(
        "The import is given models, checks and encodes them, and keeps stream versions; COPY is given finished rows. "
        "From a file, it parses and validates each line as well."
    )
    return row


def _models(records: list[tuple[Any, ...]]) -> list[bulk.ImportedEvent]:
    return [
        bulk.ImportedEvent(
            stream_id=record[0],
            data=deposit(number),
            stream_version=record[1],
            event_id=record[2],
            occurred_at=record[9],
        )
        for number, record in enumerate(records)
    ]


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
