"""The codec: models in, stored text out, and back through the upcasters."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from pydantic import BaseModel, ValidationError

from eventstore.codec import payload
from eventstore.errors import (
    InvalidArgumentError,
    NewerSchemaVersionError,
    UnknownEventTypeError,
    UnreadablePayloadError,
    UnstorablePayloadError,
    UpcastError,
)
from eventstore.events import NewEvent, Position, RawEvent, RecordedEvent
from eventstore.metadata import NO_METADATA, Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from uuid import UUID

    from eventstore.clock import Clock, IdGenerator
    from eventstore.codec.registry import EventType, EventTypes
    from eventstore.codec.selection import Selection


class EncodedEvent(NamedTuple):
    """An event as it goes to the log. `chosen_id` says that the caller named its id, so it may be a repetition."""

    event_id: UUID
    event_type: str
    schema_version: int
    data: str
    metadata: str | None
    correlation_id: str | None
    causation_id: str | None
    occurred_at: datetime
    chosen_id: bool


class StoredEvent(NamedTuple):
    """An event as it comes from the log; the queries' columns are in this order."""

    position: int
    stream_id: str
    stream_version: int
    event_id: UUID
    event_type: str
    schema_version: int
    data: str
    metadata: str | None
    correlation_id: str | None
    causation_id: str | None
    occurred_at: datetime
    recorded_at: datetime


class Codec:
    """Turns events into what the log stores, and back.

    Args:
        types: The registered event types.
        clock: Gives `occurred_at` to events that come without one.
        new_id: Gives ids to events that come without one.
        max_payload: The largest payload, in bytes of JSON.
    """

    def __init__(self, types: EventTypes, *, clock: Clock, new_id: IdGenerator, max_payload: int) -> None:
        self.types = types
        self._clock = clock
        self._new_id = new_id
        self._max_payload = max_payload

    # --- writing -------------------------------------------------------------------------------------------------

    def encode(self, event: BaseModel | NewEvent, outer: Metadata) -> EncodedEvent:
        """Return an event as the log stores it.

        Args:
            event: A registered model's instance, or a `NewEvent` around one.
            outer: The metadata that applies at the call; the event's own wins over it.

        Raises:
            UnknownEventTypeError: The model is not registered.
            UnstorablePayloadError: Its data or metadata would not come back identical.
        """
        new = event if isinstance(event, NewEvent) else NewEvent(event)
        data = new.data
        if not isinstance(data, BaseModel):
            raise InvalidArgumentError(f"events are pydantic models or NewEvent, not {type(data).__qualname__}")
        event_type = self.types.of_model(type(data))
        metadata = new.metadata.over(outer) if new.metadata else outer
        return EncodedEvent(
            event_id=new.event_id or self._new_id(),
            event_type=event_type.name,
            schema_version=event_type.version,
            data=payload.encode(data, event_type.name, self._max_payload),
            metadata=_encode_metadata(metadata, event_type.name),
            correlation_id=metadata.correlation_id,
            causation_id=metadata.causation_id,
            occurred_at=new.occurred_at or self._clock(),
            chosen_id=new.event_id is not None,
        )

    # --- reading -------------------------------------------------------------------------------------------------

    def decode(self, stored: StoredEvent, selection: Selection) -> Iterator[RecordedEvent[Any]]:
        """Yield the events that a stored one is today: one, or what its upcasters make of it, if it was asked for.

        Raises:
            UnknownEventTypeError: Its type is not registered, and raw events were not asked for.
            NewerSchemaVersionError: Newer code than this wrote it.
            UpcastError: An upcaster failed.
            UnreadablePayloadError: Its data does not validate as its model.
        """
        event_type = self.types.named(stored.event_type)
        if event_type is not None and event_type.version == stored.schema_version:
            if selection.wants(event_type.model):
                yield _recorded(stored, event_type, stored.data)
            elif selection.raw:
                yield _raw(stored)
            return
        if selection.raw and (selection.models == frozenset() or not self._is_known(stored)):
            yield _raw(stored)
            return
        if event_type is not None and stored.schema_version > event_type.version:
            raise NewerSchemaVersionError(
                stored.event_type,
                stored.schema_version,
                event_type.version,
                stored.stream_id,
                stored.stream_version,
            )
        for current, data in self._upcast(stored):
            if selection.wants(current.model):
                yield _recorded(stored, current, data)

    def same_content(self, encoded: EncodedEvent, stored: StoredEvent) -> bool:
        """Whether a stored event is the same fact as one that is appended: values are compared, metadata is not."""
        if (encoded.event_id, encoded.event_type) != (stored.event_id, stored.event_type):
            return False
        if encoded.schema_version == stored.schema_version:
            return bool(json.loads(encoded.data) == json.loads(stored.data))
        lifted = [data for _, data in self._upcast(stored)]
        return len(lifted) == 1 and json.loads(lifted[0]) == json.loads(encoded.data)

    def _is_known(self, stored: StoredEvent) -> bool:
        return (
            self.types.named(stored.event_type) is not None
            or self.types.upcaster_from(stored.event_type, stored.schema_version) is not None
        )

    def _upcast(self, stored: StoredEvent) -> Iterator[tuple[EventType, str]]:
        """Yield the current type and JSON of each event that a stored one of an older schema version becomes."""
        waiting = deque([(stored.event_type, stored.schema_version, json.loads(stored.data))])
        while waiting:
            name, version, data = waiting.popleft()
            event_type = self.types.named(name)
            if event_type is not None and event_type.version == version:
                yield event_type, json.dumps(data)
                continue
            upcaster = self.types.upcaster_from(name, version)
            if upcaster is None:
                if event_type is None:
                    raise UnknownEventTypeError(name, stream_id=stored.stream_id, stream_version=stored.stream_version)
                raise _upcast_error(stored, f"there is no upcaster from version {version}")
            try:
                result = upcaster(data)
            except Exception as error:
                raise _upcast_error(stored, f"its upcaster raised {type(error).__qualname__}") from error
            if isinstance(result, dict):
                waiting.appendleft((name, version + 1, result))
            else:
                waiting.extendleft((to.event_type, to.version, to.data) for to in reversed(result))


def _upcast_error(stored: StoredEvent, problem: str) -> UpcastError:
    return UpcastError(stored.event_type, stored.schema_version, stored.stream_id, stored.stream_version, problem)


def _recorded(stored: StoredEvent, event_type: EventType, data: str) -> RecordedEvent[Any]:
    try:
        model = event_type.model.__pydantic_validator__.validate_json(data)
    except ValidationError as error:
        raise UnreadablePayloadError(
            stored.event_type,
            stored.schema_version,
            stored.stream_id,
            stored.stream_version,
            payload.summary(error),
        ) from None
    return _around(stored, model, event_type.name, event_type.version)


def _raw(stored: StoredEvent) -> RecordedEvent[RawEvent]:
    return _around(stored, RawEvent(json.loads(stored.data)), stored.event_type, stored.schema_version)


def _around(stored: StoredEvent, data: Any, event_type: str, schema_version: int) -> RecordedEvent[Any]:
    return RecordedEvent(
        Position(stored.position),
        stored.stream_id,
        stored.stream_version,
        stored.event_id,
        event_type,
        schema_version,
        data,
        _decode_metadata(stored),
        stored.occurred_at,
        stored.recorded_at,
    )


def _encode_metadata(metadata: Metadata, event_type: str) -> str | None:
    values: dict[str, Any] = dict(metadata.extra)
    if metadata.command_id is not None:
        values["$command_id"] = metadata.command_id
    if metadata.actor is not None:
        values["$actor"] = metadata.actor
    if not values:
        return None
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        raise UnstorablePayloadError(event_type, "its metadata is not plain JSON (NaN, a surrogate, a type?)") from None
    if "\\u0000" in text and json.loads(text) != json.loads(text.replace("\\u0000", "")):
        raise UnstorablePayloadError(event_type, "its metadata holds a NUL character")
    return text


def _decode_metadata(stored: StoredEvent) -> Metadata:
    if stored.metadata is None:
        if stored.correlation_id is None and stored.causation_id is None:
            return NO_METADATA
        return Metadata(stored.correlation_id, stored.causation_id)
    values = cast("dict[str, Any]", json.loads(stored.metadata))
    return Metadata(
        correlation_id=stored.correlation_id,
        causation_id=stored.causation_id,
        command_id=values.pop("$command_id", None),
        actor=values.pop("$actor", None),
        extra=values,
    )
