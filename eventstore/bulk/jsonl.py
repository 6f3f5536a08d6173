"""JSON Lines: a line for each event, as `eventstore export` writes it and `eventstore read --json` prints it."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any
from uuid import UUID

from pydantic import AliasChoices, AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from eventstore.bulk.errors import ImportRowError
from eventstore.bulk.events import ImportedEvent, JsonEvent
from eventstore.bulk.json_text import JsonReader
from eventstore.codec.payload import summary
from eventstore.errors import InvalidArgumentError
from eventstore.metadata import NO_METADATA, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from eventstore.codec import StoredEvent

_NAMED = ("correlation_id", "causation_id", "command_id", "actor")


class JsonMetadata(BaseModel):
    """What is recorded beside an event, as it is written."""

    model_config = ConfigDict(extra="forbid")

    correlation_id: str | None = None
    causation_id: str | None = None
    command_id: str | None = None
    actor: str | None = None
    extra: dict[str, Any] = Field(default_factory=dict, repr=False)

    def given(self) -> Metadata | None:
        """Return it as the store takes it; None where nothing is named.

        Raises:
            InvalidArgumentError: A value is empty or too long, or a name begins with `$`.
        """
        return Metadata(**self.model_dump()) if self.model_fields_set else None


class _Line(BaseModel):
    """A line. The position is that in the other log; here the event gets one of its own."""

    model_config = ConfigDict(extra="forbid")

    stream_id: str
    event_type: str = Field(validation_alias=AliasChoices("event_type", "type"))
    data: dict[str, Any] = Field(repr=False)
    stream_version: int | None = Field(default=None, ge=1)
    event_id: UUID | None = None
    schema_version: int | None = Field(default=None, ge=1)
    metadata: JsonMetadata | None = None
    occurred_at: AwareDatetime | None = None
    recorded_at: AwareDatetime | None = None
    position: str | int | None = None


def read_jsonl(lines: Iterable[bytes], *, renumber: bool = False) -> Iterator[ImportedEvent]:
    """Yield the events of a file of JSON Lines; empty lines are passed over.

    Args:
        lines: The lines.
        renumber: Leave out the stream versions, so that streams count anew, as part of a log must.

    Raises:
        ImportRowError: A line is not what it must be; named with its number, without its data.
    """
    row, reader = 0, JsonReader()
    for number, line in enumerate(lines, 1):
        written = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
        if not written.strip():
            continue
        row += 1
        try:
            yield _event(reader, written, number, renumber=renumber)
        except InvalidArgumentError as error:
            raise ImportRowError(row, str(error), line=number) from None


def _event(reader: JsonReader, line: bytes, number: int, *, renumber: bool) -> ImportedEvent:
    try:
        text = line.decode().rstrip()
    except UnicodeDecodeError:
        raise InvalidArgumentError("it is not UTF-8") from None
    try:
        read = _Line.model_validate(without_data(reader.value(text).value))
    except ValidationError as error:
        raise InvalidArgumentError(summary(error)) from None
    return ImportedEvent(
        read.stream_id,
        JsonEvent(read.event_type, reader.member(text, "data"), read.schema_version),
        None if renumber else read.stream_version,
        read.event_id,
        read.occurred_at,
        read.recorded_at,
        None if read.metadata is None else read.metadata.given(),
        number,
    )


def without_data(said: Any) -> Any:
    """Return what a line says with an empty object for its data, which the codec looks at.

    Data that says its schema version may be any JSON: there are models of a list. Other data is fields, by name.
    """
    if not isinstance(said, dict) or "data" not in said:
        return said
    is_any = said.get("schema_version") is not None
    return said | {"data": {}} if is_any or isinstance(said["data"], dict) else said


# --- and back ------------------------------------------------------------------------------------------------------


def jsonl(stored: StoredEvent, metadata: Metadata) -> str:
    """Return the line of an event, with its data as it is stored."""
    front = json.dumps(
        {
            "position": str(stored.position),
            "stream_id": stored.stream_id,
            "stream_version": stored.stream_version,
            "event_id": str(stored.event_id),
            "event_type": stored.event_type,
            "schema_version": stored.schema_version,
            "occurred_at": _time(stored.occurred_at),
            "recorded_at": _time(stored.recorded_at),
        }
        | ({} if metadata is NO_METADATA else {"metadata": _beside(metadata)}),
        ensure_ascii=False,
    )
    data = stored.data.replace("\n", " ").strip()  # in JSON, it can only stand between tokens
    return f'{front[:-1]}, "data": {data}}}\n'


def _beside(metadata: Metadata) -> dict[str, Any]:
    named = {name: value for name in _NAMED if (value := getattr(metadata, name)) is not None}
    return named | ({"extra": dict(metadata.extra)} if metadata.extra else {})


def _time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
