"""The codec: models in, stored text out, and back through the upcasters."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from pathlib import PurePath
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from uuid import UUID

from pydantic import BaseModel, ValidationError

from eventstore.codec import payload
from eventstore.codec.pages import PageDecoder
from eventstore.codec.registry import Upcast
from eventstore.codec.sameness import same
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

    from eventstore.clock import Clock, IdGenerator
    from eventstore.codec.registry import Data, EventType, EventTypes, Upcaster
    from eventstore.codec.selection import Selection
    from eventstore.codec.stored import Stored, StoredEvent

_MAX_DECODERS: Final = 1000
_MAX_UPCASTS: Final = 1000
"""The most steps from a stored event to what it is today."""


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

    def __repr__(self) -> str:
        return f"EncodedEvent({self.event_type}, event_id={self.event_id})"


class Interpreted(NamedTuple):
    """What a stored event is today: its data (a model, or `RawEvent`), and the type and version that it has now."""

    data: Any
    event_type: str
    schema_version: int

    def __repr__(self) -> str:
        return f"Interpreted({self.event_type}, schema_version={self.schema_version})"


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
        self.max_payload = max_payload
        self._pages: dict[Selection, PageDecoder] = {}

    # --- writing -------------------------------------------------------------------------------------------------

    def encode(self, event: BaseModel | NewEvent, outer: Metadata) -> EncodedEvent:
        """Return an event as the log stores it.

        Args:
            event: A registered model's instance, or a `NewEvent` around one.
            outer: The metadata that applies at the call; the event's own wins over it.

        Raises:
            UnknownEventTypeError: The model is not registered.
            UnstorablePayloadError: Its data or metadata would not come back identical.
            ConfigurationError: Its model is not complete.
        """
        event_id = occurred_at = own = None
        data = event
        if isinstance(event, NewEvent):
            data, event_id, occurred_at, own = event.data, event.event_id, event.occurred_at, event.metadata
        if not isinstance(data, BaseModel):
            raise InvalidArgumentError(f"events are pydantic models or NewEvent, not {type(data).__qualname__}")
        event_type = self.types.of_model(type(data))
        metadata = own.over(outer) if own else outer
        return EncodedEvent(
            event_id or self._new_id(),
            event_type.name,
            event_type.version,
            payload.encode(data, event_type.name, self.max_payload),
            _encode_metadata(metadata, event_type.name),
            metadata.correlation_id,
            metadata.causation_id,
            occurred_at or self._clock(),
            chosen_id=event_id is not None,
        )

    def encode_data(self, data: BaseModel) -> tuple[str, int, bytes]:
        """Return an event's type, schema version and JSON, checked as `encode` does; for imports, which make many.

        Raises:
            UnknownEventTypeError: The model is not registered.
            UnstorablePayloadError: The data would not come back identical.
        """
        if not isinstance(data, BaseModel):
            raise InvalidArgumentError(f"events are pydantic models, not {type(data).__qualname__}")
        event_type = self.types.of_model(type(data))
        name = event_type.name
        return name, event_type.version, payload.encode_bytes(data, name, self.max_payload)

    def encode_beside(self, metadata: Metadata, event_type: str) -> tuple[str | None, str | None, str | None]:
        """Return metadata as the log stores it: what has no column of its own, correlation and causation.

        Raises:
            UnstorablePayloadError: It would not come back identical.
        """
        return _encode_metadata(metadata, event_type), metadata.correlation_id, metadata.causation_id

    def now(self) -> datetime:
        """Return the time that events without one have occurred at."""
        return self._clock()

    # --- reading -------------------------------------------------------------------------------------------------

    def decode(self, stored: StoredEvent, selection: Selection) -> Sequence[RecordedEvent[Any]]:
        """Return the events that a stored one is today: one, or what its upcasters make of it, if it was asked for.

        Raises:
            CodecError: As `interpret` does.
        """
        return [_around(stored, today) for today in self.interpret(stored, selection)]

    def interpret(self, stored: Stored, selection: Selection) -> Sequence[Interpreted]:
        """Return the same without what was recorded beside the data, which folding has no use for.

        Raises:
            UnknownEventTypeError: Its type is not registered, and raw events were not asked for.
            NewerSchemaVersionError: Newer code than this wrote it.
            UpcastError: An upcaster failed.
            UnreadablePayloadError: Its data does not validate as its model.
            ConfigurationError: Its model is not complete.
        """
        event_type = self.types.named(stored.event_type)
        if event_type is not None and event_type.version == stored.schema_version:
            if selection.wants(event_type.model):
                return [_validated(stored, event_type, stored.data)]
            return [_raw(stored)] if selection.raw else []
        if selection.raw and (selection.models == frozenset() or not self._is_known(stored)):
            return [_raw(stored)]
        if event_type is not None and stored.schema_version > event_type.version:
            raise NewerSchemaVersionError(
                stored.event_type,
                stored.schema_version,
                event_type.version,
                stored.stream_id,
                stored.stream_version,
            )
        wanted = [
            _validated(stored, current, data)
            for current, data in self._upcast(stored)
            if selection.wants(current.model)
        ]
        return wanted or ([_raw(stored)] if selection.raw else [])

    def pages(self, selection: Selection) -> PageDecoder:
        """Return what decodes many events for one selection."""
        decoder = self._pages.get(selection)
        if decoder is None:
            if len(self._pages) >= _MAX_DECODERS:
                self._pages.clear()  # somebody makes models as they go
            decoder = self._pages[selection] = PageDecoder(self, selection)
        return decoder

    def metadata_of(self, stored: StoredEvent) -> Metadata:
        """Return what was recorded beside a stored event."""
        return _decode_metadata(stored)

    def same_content(self, encoded: EncodedEvent, stored: StoredEvent) -> bool:
        """Whether a stored event is the same fact as one that is appended: values are compared, metadata is not."""
        if (encoded.event_id, encoded.event_type) != (stored.event_id, stored.event_type):
            return False
        if encoded.schema_version == stored.schema_version:
            return encoded.data == stored.data or self._same_values(encoded, stored.data)
        lifted = [data for _, data in self._upcast(stored)]
        return len(lifted) == 1 and self._same_values(encoded, lifted[0])

    def _same_values(self, encoded: EncodedEvent, data: str) -> bool:
        """Compare as the models that both are: the same value can be written in more than one way."""
        event_type = self.types.named(encoded.event_type)
        assert event_type is not None  # noqa: S101 - it was encoded as this type
        read = event_type.validate_json
        try:
            return same(read(encoded.data), read(data))
        except Exception:  # noqa: BLE001 - what cannot be read any more is not what was just written
            return False

    def _is_known(self, stored: Stored) -> bool:
        return (
            self.types.named(stored.event_type) is not None
            or self.types.upcaster_from(stored.event_type, stored.schema_version) is not None
        )

    def _upcast(self, stored: Stored) -> Iterator[tuple[EventType, str]]:
        """Yield the current type and JSON of each event that a stored one of an older schema version becomes."""
        waiting = deque([Upcast(stored.event_type, stored.schema_version, json.loads(stored.data))])
        for _ in range(_MAX_UPCASTS):
            if not waiting:
                return
            name, version, data = waiting.popleft()
            event_type = self.types.named(name)
            if event_type is not None and event_type.version == version:
                yield event_type, _dumped(stored, data)
                continue
            upcaster = self.types.upcaster_from(name, version)
            if upcaster is None:
                if event_type is None:
                    raise UnknownEventTypeError(name, stream_id=stored.stream_id, stream_version=stored.stream_version)
                raise _upcast_error(stored, f"there is no upcaster from version {version} of {name!r}")
            waiting.extendleft(reversed(_lifted(stored, name, version, upcaster, data)))
        raise _upcast_error(stored, "its upcasters lead round in circles")


def _lifted(stored: Stored, name: str, version: int, upcaster: Upcaster, data: Data) -> Sequence[Upcast]:
    """Return what an upcaster makes of one version: the next one, or the events that it becomes."""
    try:
        result = upcaster(data)
    except Exception as error:  # noqa: BLE001 - upcasters are anybody's code, and their errors hold values
        raise _upcast_error(stored, f"its upcaster raised {_where(error)}") from None
    if isinstance(result, dict):
        return [Upcast(name, version + 1, result)]
    if isinstance(result, Sequence) and all(isinstance(to, Upcast) for to in result):
        return result
    raise _upcast_error(stored, f"its upcaster from version {version} returned neither a dict nor a sequence of Upcast")


def _where(error: Exception) -> str:
    """Return what was raised, and in which line: of what a traceback would show, all that is not payload."""
    *_, (frame, line) = walk_tb(error.__traceback__)
    return f"{type(error).__qualname__} ({PurePath(frame.f_code.co_filename).name}, line {line})"


def _dumped(stored: Stored, data: Data) -> str:
    try:
        return json.dumps(data)
    except (TypeError, ValueError, RecursionError) as error:
        raise _upcast_error(stored, f"its upcaster returned what is no JSON ({type(error).__qualname__})") from None


def _upcast_error(stored: Stored, problem: str) -> UpcastError:
    return UpcastError(stored.event_type, stored.schema_version, stored.stream_id, stored.stream_version, problem)


def _validated(stored: Stored, event_type: EventType, data: str) -> Interpreted:
    read = event_type.validate_json
    try:
        model = read(data)
    except ValidationError as error:
        raise UnreadablePayloadError(
            stored.event_type,
            stored.schema_version,
            stored.stream_id,
            stored.stream_version,
            payload.summary_of(error, event_type.model),
        ) from None
    except Exception as error:  # noqa: BLE001 - validators are anybody's code, and their errors hold values
        raise UnreadablePayloadError(
            stored.event_type,
            stored.schema_version,
            stored.stream_id,
            stored.stream_version,
            f"its validators raised {type(error).__qualname__}",
        ) from None
    return Interpreted(model, event_type.name, event_type.version)


def _raw(stored: Stored) -> Interpreted:
    return Interpreted(RawEvent(json.loads(stored.data)), stored.event_type, stored.schema_version)


def _around(stored: StoredEvent, today: Interpreted) -> RecordedEvent[Any]:
    return RecordedEvent(
        Position(stored.position),
        stored.stream_id,
        stored.stream_version,
        stored.event_id,
        today.event_type,
        today.schema_version,
        today.data,
        _decode_metadata(stored),
        stored.occurred_at,
        stored.recorded_at,
    )


def _encode_metadata(metadata: Metadata, event_type: str) -> str | None:
    if metadata is NO_METADATA:
        return None
    values: dict[str, Any] = dict(metadata.extra)
    if metadata.command_id is not None:
        values["$command_id"] = metadata.command_id
    if metadata.actor is not None:
        values["$actor"] = metadata.actor
    if not values:
        return None
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False)
        size = len(text.encode())
        back = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise UnstorablePayloadError(event_type, "its metadata is not plain JSON (NaN, a surrogate, a type?)") from None
    if size > payload.MAX_METADATA_BYTES:
        raise UnstorablePayloadError(
            event_type, f"its metadata takes {size} bytes, at most {payload.MAX_METADATA_BYTES} are allowed"
        )
    if payload.depth(back) > payload.MAX_NESTING:  # first: the others go down by recursion
        raise UnstorablePayloadError(event_type, f"its metadata is nested deeper than {payload.MAX_NESTING} levels")
    if not same(values, back):
        raise UnstorablePayloadError(event_type, "its metadata would come back changed (a tuple, an enum, a name?)")
    if payload.holds_nul(values):
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
