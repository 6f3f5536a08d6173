"""Stored events as messages and back: CloudEvents 1.0 in binary mode, the payload untouched, the rest in headers.

The round trip is exact: what `read_event` returns equals what the log holds, microseconds included. This is the hot
path of publishing, so what repeats is built once and kept: a type's headers here, a stream's by whoever sends.

    header                          from
    ce_id, ce_type                  event_id, event_type
    ce_source                       <source>/<stream_id>: event ids are unique within their stream, and CloudEvents
                                    wants (source, id) to be unique
    ce_subject, stream_id           stream_id, which is the key too
    ce_time                         occurred_at; the record's own time is recorded_at
    recorded_at, stream_version, global_position, schema_version
    correlation_id, causation_id, metadata       left out when the event has none

An event that somebody decided not to send leaves a record in its place, of the type `$discarded` and with an empty
value: who counts a stream's versions goes on, and nobody takes it for the event.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import quote
from uuid import UUID

from eventstore.codec import StoredEvent

Headers: TypeAlias = list[tuple[str, bytes]]

DISCARDED: Final = "$discarded"
"""The type of a record in the place of an event that was discarded; names with a `$` are the framework's own."""

_FIXED: Final[Headers] = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]


class CloudEvents:
    """Builds the headers of events.

    Args:
        source: The beginning of `ce_source`; a URI reference such as `/shop/orders`.
    """

    def __init__(self, source: str) -> None:
        self._source = source
        self._by_type: dict[tuple[str, int], Headers] = {}

    def of_stream(self, stream_id: str) -> Headers:
        """Return the headers that all events of a stream have."""
        written = stream_id.encode()
        source = f"{self._source}/{quote(stream_id)}".encode()
        return [("ce_source", source), ("ce_subject", written), ("stream_id", written)]

    def headers(self, event: StoredEvent, of_stream: Headers) -> Headers:
        """Return an event's headers, a new list.

        Args:
            event: The event.
            of_stream: What `of_stream` returns for its stream.
        """
        (
            position,
            _,
            stream_version,
            event_id,
            event_type,
            schema_version,
            _,
            metadata,
            correlation_id,
            causation_id,
            occurred_at,
            recorded_at,
        ) = event
        headers = [
            *(self._by_type.get((event_type, schema_version)) or self._of_type(event_type, schema_version)),
            *of_stream,
            ("ce_id", str(event_id).encode()),
            ("ce_time", occurred_at.isoformat().encode()),
            ("recorded_at", recorded_at.isoformat().encode()),
            ("stream_version", b"%d" % stream_version),
            ("global_position", b"%d" % position),
        ]
        if correlation_id is not None:
            headers.append(("correlation_id", correlation_id.encode()))
        if causation_id is not None:
            headers.append(("causation_id", causation_id.encode()))
        if metadata is not None:
            headers.append(("metadata", metadata.encode()))
        return headers

    def _of_type(self, event_type: str, schema_version: int) -> Headers:
        headers = [*_FIXED, ("ce_type", event_type.encode()), ("schema_version", b"%d" % schema_version)]
        return self._by_type.setdefault((event_type, schema_version), headers)


def in_place_of(event: StoredEvent) -> StoredEvent:
    """Return what is sent in the place of an event that is discarded: where it was, and nothing of what it said."""
    return event._replace(
        event_type=DISCARDED, schema_version=1, data="", metadata=None, correlation_id=None, causation_id=None
    )


class Arrived(NamedTuple):
    """What is looked at of every message, before it is clear whether its event is wanted."""

    position: int
    stream_id: str
    stream_version: int
    event_type: str


class NotAnEventError(ValueError):
    """A message is not one of ours: the text says what is missing or unreadable, never a value."""


def glance(headers: dict[str, bytes]) -> Arrived:
    """Return what says where an event belongs, the cheap part of reading it.

    Raises:
        NotAnEventError: The message is not an event of a store.
    """
    try:
        return Arrived(
            int(headers["global_position"]),
            headers["stream_id"].decode(),
            int(headers["stream_version"]),
            headers["ce_type"].decode(),
        )
    except (KeyError, ValueError) as error:
        raise NotAnEventError(_problem(error)) from None


def read_event(value: bytes, headers: dict[str, bytes]) -> StoredEvent:
    """Return the stored event that a message carries, exactly as the log holds it.

    Raises:
        NotAnEventError: The message is not an event of a store.
    """
    try:
        return StoredEvent(
            int(headers["global_position"]),
            headers["stream_id"].decode(),
            int(headers["stream_version"]),
            UUID(headers["ce_id"].decode()),
            headers["ce_type"].decode(),
            int(headers["schema_version"]),
            value.decode(),
            _text(headers.get("metadata")),
            _text(headers.get("correlation_id")),
            _text(headers.get("causation_id")),
            datetime.fromisoformat(headers["ce_time"].decode()),
            datetime.fromisoformat(headers["recorded_at"].decode()),
        )
    except (KeyError, ValueError) as error:
        raise NotAnEventError(_problem(error)) from None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def _problem(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the header {error.args[0]!r} is missing"
    return f"a header or the payload cannot be read ({type(error).__name__})"
