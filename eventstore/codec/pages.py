"""Decoding page by page: what `Codec.decode` does, for many events and one selection.

Profile of decoding events of 165 bytes, in microseconds an event: validation 0.7, and around it 1.7 for the decisions
(is it registered, at this version, wanted?), a list and a generator for what is nearly always one event, and the
constructors' calls. The decisions are the same for all events of a type and version, so they are made once: 0.6 is left
around the validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eventstore.codec.stored import StoredPayload
from eventstore.events import Position, RecordedEvent
from eventstore.metadata import NO_METADATA

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from pydantic import BaseModel

    from eventstore.codec.codec import Codec
    from eventstore.codec.selection import Selection
    from eventstore.codec.stored import StoredEvent

_tuple: Final = tuple.__new__


class PageDecoder:
    """Decodes what is stored for one selection.

    Args:
        codec: The codec, which does whatever is out of the ordinary: upcasters, raw events, errors.
        selection: What the reader wants.
    """

    def __init__(self, codec: Codec, selection: Selection) -> None:
        self._codec = codec
        self._selection = selection
        self._validators: dict[tuple[str, int], Callable[[str], Any]] = {}
        self._built: list[tuple[type[BaseModel], object]] = []

    def events(self, page: Sequence[StoredEvent]) -> list[RecordedEvent[Any]]:
        """Return the events that a page is today, in order, without those that were not asked for.

        Raises:
            CodecError: As `Codec.interpret` does.
        """
        known, metadata_of = self._known(), self._codec.metadata_of
        events: list[RecordedEvent[Any]] = []
        add = events.append
        for stored in page:
            # By place, and past the constructor: the names and the call would cost as much as all the rest.
            position, stream_id, version, event_id, name, schema, text, metadata, correlation, causation, at, since = (
                stored
            )
            validate = known.get((name, schema)) or self._learn(name, schema)
            if validate is None:
                events += self._codec.decode(stored, self._selection)
                continue
            try:
                data = validate(text)
            except Exception:  # noqa: BLE001 - the codec says what is wrong
                events += self._codec.decode(stored, self._selection)
                continue
            nothing = metadata is None and correlation is None and causation is None
            beside = NO_METADATA if nothing else metadata_of(stored)
            values = (Position(position), stream_id, version, event_id, name, schema, data, beside, at, since)
            add(_tuple(RecordedEvent, values))
        return events

    def data(self, stream_id: str, rows: Iterable[Sequence[Any]]) -> Iterator[Any]:
        """Yield only the data of the events that a stream's rows are today: what folding needs.

        One at a time: a model that is folded and gone before the next is made never meets the garbage collector.

        Args:
            stream_id: The stream, which an error names.
            rows: Begin with event type, schema version, data and stream version.

        Raises:
            CodecError: As `Codec.interpret` does.
        """
        known = self._known()
        for row in rows:
            name, schema, text = row[0], row[1], row[2]
            validate = known.get((name, schema)) or self._learn(name, schema)
            if validate is not None:
                try:
                    data = validate(text)
                except Exception:  # noqa: BLE001, S110 - below the codec says what is wrong
                    pass
                else:
                    yield data
                    continue
            stored = StoredPayload(stream_id, row[3], name, schema, text)
            for today in self._codec.interpret(stored, self._selection):
                yield today.data

    def _known(self) -> dict[tuple[str, int], Callable[[str], Any]]:
        """Return what reads the types that were met; all are learned anew once the model of one is rebuilt."""
        for model, validator in self._built:
            if model.__pydantic_validator__ is not validator:
                self._validators, self._built = {}, []
                break
        return self._validators

    def _learn(self, name: str, schema: int) -> Callable[[str], Any] | None:
        """Return what reads a type at a version, unless that takes more than its model."""
        event_type = self._codec.types.named(name)
        if event_type is None or event_type.version != schema or not self._selection.wants(event_type.model):
            return None
        validate = self._validators[name, schema] = event_type.validate_json
        self._built.append((event_type.model, event_type.model.__pydantic_validator__))
        return validate
