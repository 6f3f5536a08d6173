"""What an import takes: events with the places and times that they have, as models or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from pydantic import BaseModel

    from eventstore.bulk.json_text import JsonText
    from eventstore.metadata import Metadata
    from eventstore.streams import StreamId


class JsonEvent(NamedTuple):
    """An event's data without its model.

    Attributes:
        event_type: The registered name.
        data: The payload; a string is its JSON text, and `JsonText` one that was read, as by `read_jsonl`.
        schema_version: The version of the model that it was written with. When it is said, the data is stored as it
            is, text to the letter, once the model or its upcasters have shown that they can read it. When it is left
            out, the data becomes an event of the current model, which is stored: defaults are added, and a name that
            the model has not is refused.
        columns: Where its fields come from, for error messages.
    """

    event_type: str
    data: Mapping[str, Any] | str | JsonText
    schema_version: int | None = None
    columns: Mapping[str, str] | None = None

    def __repr__(self) -> str:
        return f"JsonEvent({self.event_type})"


class ImportedEvent(NamedTuple):
    """An event to import.

    Attributes:
        stream_id: Its stream, `category-key`.
        data: The event: an instance of a registered model, or its JSON.
        stream_version: Its number in the stream, which must be the next one there; given by the import when left out.
        event_id: Its id; derived from the import's name and the row's number when left out, so that it is always the
            same one.
        occurred_at: The business time, aware; the moment of the import when left out.
        recorded_at: When it was recorded, aware, for logs that come from another store; the server's time when left
            out. It never falls within a stream.
        metadata: What is recorded beside it. The metadata that applies at the call is not added: this is history.
        line: The line that it came from, for error messages.
    """

    stream_id: str | StreamId
    data: BaseModel | JsonEvent
    stream_version: int | None = None
    event_id: UUID | None = None
    occurred_at: datetime | None = None
    recorded_at: datetime | None = None
    metadata: Metadata | None = None
    line: int | None = None

    def __repr__(self) -> str:
        return f"ImportedEvent({self.stream_id})"
