"""Moving a system in and out: imports through COPY, exports as JSON Lines, CSV with a mapping."""

from eventstore.bulk.encoding import row_event_id
from eventstore.bulk.errors import (
    ImportBusyError,
    ImportChangedError,
    ImportRowError,
    ImportUnknownTypeError,
    ImportVersionError,
    InlineProjectionsError,
)
from eventstore.bulk.events import ImportedEvent, JsonEvent
from eventstore.bulk.exporting import export_log, export_stream
from eventstore.bulk.importing import ImportProgress, ImportResult, import_events
from eventstore.bulk.json_text import JsonText
from eventstore.bulk.jsonl import read_jsonl
from eventstore.bulk.mapping import CsvMapping, read_csv

__all__ = [
    "CsvMapping",
    "ImportBusyError",
    "ImportChangedError",
    "ImportProgress",
    "ImportResult",
    "ImportRowError",
    "ImportUnknownTypeError",
    "ImportVersionError",
    "ImportedEvent",
    "InlineProjectionsError",
    "JsonEvent",
    "JsonText",
    "export_log",
    "export_stream",
    "import_events",
    "read_csv",
    "read_jsonl",
    "row_event_id",
]
