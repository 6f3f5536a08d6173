"""CSV, by a mapping: which columns make the stream id, the event's type and its data, its times and its metadata.

stream = "order-{order_id}"                   # a template of columns
type = "{kind}"                               # the event type: fixed, or from columns
event_id = "{id}"                             # a UUID; left out: derived from the import's name and the row

[types]                                       # what the columns say -> the registered name; "" passes a row over
NEW = "OrderPlaced"

[occurred_at]
column = "time"
format = "%d.%m.%Y %H:%M"                     # or "iso" (the default), "unix", "unix_ms"
timezone = "Europe/Berlin"                    # for times without one

[data]                                        # field of the event = column; an empty cell leaves the field out
sku = "article"

[data_of.OrderPlaced]                         # further fields, of one type only
quantity = "amount"

[metadata]                                    # correlation_id, causation_id, actor; others become extra
actor = "clerk"
"""

from __future__ import annotations

import csv
import json
import re
import string
import tomllib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from eventstore.bulk.errors import ImportRowError
from eventstore.bulk.events import ImportedEvent, JsonEvent
from eventstore.codec.payload import summary
from eventstore.errors import ConfigurationError, InvalidArgumentError
from eventstore.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_LARGEST_CELL: Final = 2**26
"""In characters; how large an event may be is for the store to say."""

_PADDING: Final = re.compile(r"(.?>0?[1-9]\d{0,2})?", re.DOTALL)
"""How a cell may be formatted: padded in front. Cut, or padded behind as by `08`, several would make one stream."""

_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)
_NAMED: Final = frozenset({"correlation_id", "causation_id", "command_id", "actor"})


class TimeColumn(BaseModel):
    """Where a time stands, and how it is written."""

    model_config = ConfigDict(extra="forbid")

    column: str
    format: str = "iso"
    timezone: str | None = None

    @field_validator("timezone")
    @classmethod
    def _exists(cls, name: str | None) -> str | None:
        try:
            return name and ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError("no such time zone") from None

    def read(self, text: str) -> datetime:
        """Return a time.

        Raises:
            InvalidArgumentError: The text is none, or says no zone where the mapping says none either.
        """
        try:
            if self.format in {"unix", "unix_ms"}:
                return _UNIX + timedelta(**{"seconds" if self.format == "unix" else "milliseconds": float(text)})
            time = datetime.fromisoformat(text) if self.format == "iso" else datetime.strptime(text, self.format)  # noqa: DTZ007 - the zone follows
            if time.tzinfo is None and self.timezone is not None:
                time = time.replace(tzinfo=ZoneInfo(self.timezone))
            if time.tzinfo is not None:
                return time.astimezone(UTC)
        except (ValueError, OverflowError, re.error):
            raise InvalidArgumentError(f"column {self.column!r}: not a time of the format {self.format!r}") from None
        raise InvalidArgumentError(f"column {self.column!r}: no time zone; write one under occurred_at.timezone")


class CsvMapping(BaseModel):
    """How the columns of a CSV file become events."""

    model_config = ConfigDict(extra="forbid")

    stream: str
    type: str
    types: dict[str, str] = Field(default_factory=dict)
    event_id: str | None = None
    occurred_at: TimeColumn | None = None
    data: dict[str, str] = Field(default_factory=dict)
    data_of: dict[str, dict[str, str]] = Field(default_factory=dict)
    metadata: dict[str, str] = Field(default_factory=dict)
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    encoding: str = "utf-8-sig"

    @field_validator("stream", "type", "event_id")
    @classmethod
    def _is_template(cls, template: str | None) -> str | None:
        try:
            can_be_filled = all(
                name != "" and not conversion and _PADDING.fullmatch(form or "")
                for _, name, form, conversion in string.Formatter().parse(template or "")
            )
        except ValueError:
            can_be_filled = False
        if not can_be_filled:
            raise ConfigurationError(
                f"the mapping is not right: columns in templates stand as {{name}} or {{name:>08}}: {template!r}"
            )
        return template

    @staticmethod
    def parse(text: str, *, toml: bool) -> CsvMapping:
        """Read a mapping.

        Raises:
            ConfigurationError: It is not TOML (or JSON), or not a mapping.
        """
        try:
            return CsvMapping.model_validate(tomllib.loads(text) if toml else json.loads(text))
        except ValidationError as error:
            raise ConfigurationError(f"the mapping is not right: {summary(error)}") from None
        except (ValueError, RecursionError) as error:
            raise ConfigurationError(f"the mapping is no {'TOML' if toml else 'JSON'}: {error}") from None

    def columns(self) -> set[str]:
        """Return all columns that it names."""
        templates = [self.stream, self.type, self.event_id or ""]
        return {
            *(name for template in templates for _, name, _, _ in string.Formatter().parse(template) if name),
            *([self.occurred_at.column] if self.occurred_at else []),
            *self.data.values(),
            *(column for fields in self.data_of.values() for column in fields.values()),
            *self.metadata.values(),
        }

    def event(self, cells: Mapping[str, str], line: int) -> ImportedEvent | None:
        """Return the event of a row; None for one that is passed over.

        Raises:
            InvalidArgumentError: A cell is not what it must be.
        """
        event_type = self._filled(self.type, cells)
        if self.types:
            if event_type not in self.types:
                raise InvalidArgumentError(f'there is nothing under [types] for {event_type!r} ("" passes rows over)')
            event_type = self.types[event_type]
            if not event_type:
                return None
        fields = self.data | self.data_of.get(event_type, {})
        return ImportedEvent(
            self._filled(self.stream, cells),
            JsonEvent(
                event_type, {field: cells[column] for field, column in fields.items() if cells[column]}, columns=fields
            ),
            event_id=self._event_id(cells),
            occurred_at=self.occurred_at.read(cells[self.occurred_at.column]) if self.occurred_at else None,
            metadata=self._metadata(cells),
            line=line,
        )

    def _filled(self, template: str, cells: Mapping[str, str]) -> str:
        filled = ""
        for text, name, form, _ in string.Formatter().parse(template):
            filled += text
            if name is not None:
                if not cells[name]:
                    raise InvalidArgumentError(f"column {name!r}: it is empty, and {template!r} needs it")
                filled += format(cells[name], form or "")
        return filled

    def _event_id(self, cells: Mapping[str, str]) -> UUID | None:
        if self.event_id is None:
            return None
        try:
            return UUID(self._filled(self.event_id, cells))
        except ValueError:
            raise InvalidArgumentError(f"event_id: {self.event_id!r} does not give a UUID") from None

    def _metadata(self, cells: Mapping[str, str]) -> Metadata | None:
        given = {name: cells[column] for name, column in self.metadata.items() if cells[column]}
        named = {name: value for name, value in given.items() if name in _NAMED}
        extra = {name: value for name, value in given.items() if name not in _NAMED}
        return Metadata(**named, extra=extra) if given else None


def read_csv(lines: Iterable[str], mapping: CsvMapping) -> Iterator[ImportedEvent]:
    """Yield the events of a CSV file, whose first line names the columns.

    Raises:
        ImportRowError: A row is not what it must be; named with its line, without its data.
        ConfigurationError: The mapping names a column that the file has not, or has twice.
    """
    csv.field_size_limit(max(csv.field_size_limit(), _LARGEST_CELL))  # it is 128 KiB, for all of the process
    reader = csv.reader(lines, delimiter=mapping.delimiter, strict=True)
    row = 0
    try:
        names = next(reader, [])
        twice = sorted(name for name in mapping.columns() if names.count(name) > 1)
        if twice:
            raise ConfigurationError(f"the file has two columns of the name {', '.join(map(repr, twice))}: rename one")
        missing = sorted(mapping.columns() - set(names))
        if missing:
            unknown, there = ", ".join(map(repr, missing)), ", ".join(names) or "none"
            raise ConfigurationError(f"the mapping names the column {unknown}, the file has: {there}")
        for cells in reader:
            if not cells:
                continue
            event = mapping.event(_named(names, cells), reader.line_num)
            if event is not None:
                row += 1
                yield event
    except csv.Error as error:
        raise ImportRowError(row + 1, f"it is not CSV: {error}", line=reader.line_num) from None
    except UnicodeDecodeError:
        raise ImportRowError(row + 1, f"it is not {mapping.encoding}", line=reader.line_num + 1) from None
    except InvalidArgumentError as error:
        raise ImportRowError(row + 1, str(error), line=reader.line_num) from None


def _named(names: Sequence[str], cells: Sequence[str]) -> dict[str, str]:
    if len(cells) != len(names):
        raise InvalidArgumentError(f"it has {len(cells)} cells, there are {len(names)} columns")
    return dict(zip(names, cells, strict=True))
