"""Rows on their way into COPY: checked by the codec as an append is, and written as PostgreSQL's binary format.

The bytes are made here, because the driver's `copy_records_to_table` uses the codecs of the connection: on a pool of
the user's, a json codec of theirs would store our text as a quoted string. It would also have to wait for the locks,
since the version and the recorded time are known only under them. Here these two stand in front and are put there then
(0.35 microseconds a row); all the rest is made beforehand, while the server works on the chunk before.

Profile of a row of 165 bytes, in microseconds: 4.5, of which the checks of its payload take 2.8 (to_json 0.45,
validate_json 0.8, the scans for what could not be stored 0.75); it was 9.8 before ids, times and metadata that are not
given stopped costing objects.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from functools import partial
from struct import Struct
from typing import TYPE_CHECKING, Final, NamedTuple
from uuid import UUID

from eventstore.bulk.errors import ImportRowError, InlineProjectionsError
from eventstore.bulk.events import JsonEvent
from eventstore.bulk.models import model_from
from eventstore.errors import CodecError, InvalidArgumentError, UnknownEventTypeError
from eventstore.streams import checked_stream_id

if TYPE_CHECKING:
    from collections.abc import Collection

    from eventstore.bulk.events import ImportedEvent
    from eventstore.codec import Codec, StoredEvent
    from eventstore.metadata import Metadata

COLUMNS: Final = (
    "stream_version",
    "recorded_at",
    "occurred_at",
    "schema_version",
    "event_id",
    "stream_id",
    "event_type",
    "data",
    "metadata",
    "correlation_id",
    "causation_id",
)
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

_FRONT: Final = Struct(">hiqiq")  # the number of columns; then each value after its length
_FIXED: Final = Struct(">iqiii16s")
_NULL: Final = b"\xff\xff\xff\xff"
_NO_METADATA: Final = _NULL * 3
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_tuple: Final = tuple.__new__
_ID: Final = Struct(">QQ")
_REMEMBERED: Final = 100_000
"""Texts whose bytes are remembered: some MiB."""


class EncodedRow(NamedTuple):
    """A row that is ready but for its version and its recorded time.

    Attributes:
        number: Its number in the source, from 1.
        line: Its line in the file that it came from.
        stream_id: The stream.
        event_id: The event's id, as bytes.
        stream_version: The version that the source says.
        recorded_at: The recorded time that the source says, as PostgreSQL counts.
        rest: All other columns.
    """

    number: int
    line: int | None
    stream_id: str
    event_id: bytes
    stream_version: int | None
    recorded_at: int | None
    rest: bytes


front: Final = partial(_FRONT.pack, len(COLUMNS), 8)
"""Returns what stands before a row's rest, given its version, the length of the next column (8), and its time."""


def microseconds(time: datetime) -> int:
    """Return a time as PostgreSQL counts: microseconds since 2000.

    Raises:
        InvalidArgumentError: It is naive.
    """
    try:
        since = time - _EPOCH
    except TypeError:
        raise InvalidArgumentError("its times must be aware: give them a time zone, for example tzinfo=UTC") from None
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds


def row_event_id(name: str, row: int) -> UUID:
    """Return the id of a row's event that comes without one.

    A UUIDv8 (RFC 9562): 60 bits of the SHA-256 of the import's name, then the row's number. A UUIDv5 of both would
    cost 1.2 microseconds a row instead of 0.1, and neighbours in the log would be far apart in the index.
    """
    return UUID(bytes=_row_id(_name_bits(name), row))


def _name_bits(name: str) -> int:
    """Return the upper half of the ids of an import: 48 bits, the version, 12 bits."""
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return digest & ~(0xF << 12) | 0x8 << 12


def _row_id(name_bits: int, row: int) -> bytes:
    return _ID.pack(name_bits, 0x2 << 62 | row)


class RowEncoder:
    """Turns the rows of an import into bytes.

    Args:
        codec: The store's codec.
        name: The import.
        refused: Event types that are not to be imported, because inline projections want them.
    """

    def __init__(self, codec: Codec, name: str, refused: Collection[str] = ()) -> None:
        self._codec = codec
        self._name_bits = _name_bits(name)
        self._refused = refused
        self._texts: dict[str, bytes] = {}

    def encode(self, number: int, event: ImportedEvent) -> EncodedRow:
        """Return a row.

        Raises:
            ImportRowError: It cannot become an event.
            InlineProjectionsError: An inline projection wants it.
        """
        try:
            stream_id = checked_stream_id(event.stream_id)
            event_type, schema_version, data = self._content(event)
            occurred_at = microseconds(event.occurred_at or self._codec.now())
            recorded_at = None if event.recorded_at is None else microseconds(event.recorded_at)
            beside = _NO_METADATA if event.metadata is None else self._beside(event.metadata, event_type)
        except (InvalidArgumentError, CodecError) as error:
            raise ImportRowError(number, str(error), line=event.line) from error
        if event_type in self._refused:
            raise InlineProjectionsError(event_type)
        event_id = _row_id(self._name_bits, number) if event.event_id is None else event.event_id.bytes
        rest = b"".join(
            (
                _FIXED.pack(8, occurred_at, 4, schema_version, 16, event_id),
                self._text(stream_id),
                self._text(event_type),
                len(data).to_bytes(4),
                data,
                beside,
            )
        )
        # Past the constructor, which would take as long as all of the packing.
        return _tuple(EncodedRow, (number, event.line, stream_id, event_id, event.stream_version, recorded_at, rest))

    def is_same(self, number: int, event: ImportedEvent, stored: StoredEvent) -> bool:
        """Whether a row is the fact that a stored event is."""
        row = self.encode(number, event)
        event_type, schema_version, data = self._content(event)
        return (row.stream_id, row.event_id, event_type, schema_version, json.loads(data)) == (
            stored.stream_id,
            stored.event_id.bytes,
            stored.event_type,
            stored.schema_version,
            json.loads(stored.data),
        )

    def _content(self, event: ImportedEvent) -> tuple[str, int, bytes]:
        """Return the type, schema version and JSON of a row's event."""
        data = event.data
        if isinstance(data, JsonEvent):
            registered = self._codec.types.named(data.event_type)
            version = data.schema_version
            if registered is None and version is None:
                raise UnknownEventTypeError(data.event_type)
            if registered is None or version not in {None, registered.version}:
                assert version is not None  # noqa: S101 - for the type checker
                return (
                    data.event_type,
                    version,
                    self._codec.encode_json(data.event_type, version, data.data, str(event.stream_id)),
                )
            data = model_from(registered.model, data.data, data.columns)
        return self._codec.encode_data(data)

    def _beside(self, metadata: Metadata, event_type: str) -> bytes:
        return b"".join(map(_nullable, self._codec.encode_beside(metadata, event_type)))

    def _text(self, text: str) -> bytes:
        """Return a text that occurs often, after its length."""
        known = self._texts.get(text)
        if known is None:
            if len(self._texts) > _REMEMBERED:
                self._texts.clear()
            known = self._texts[text] = _nullable(text)
        return known


def _nullable(text: str | None) -> bytes:
    if text is None:
        return _NULL
    encoded = text.encode()
    return len(encoded).to_bytes(4) + encoded
