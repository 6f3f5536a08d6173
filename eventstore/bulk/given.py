"""Data that says its schema version: stored to the letter, once it is sure that it can be read.

Through today's model it would not come back as it was: a field with a default would be added, and one that the model
has no more would be lost. So the model, or the upcasters before it, only show that they can read it, digits and all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from eventstore.bulk.digits import require_kept
from eventstore.bulk.errors import ImportUnknownTypeError
from eventstore.bulk.json_text import JsonText
from eventstore.codec import Selection, payload
from eventstore.codec.payload import as_json
from eventstore.codec.registry import MAX_NAME_LENGTH
from eventstore.codec.stored import StoredPayload
from eventstore.errors import InvalidArgumentError, UnknownEventTypeError
from eventstore.streams import checked_text

if TYPE_CHECKING:
    from eventstore.bulk.events import JsonEvent
    from eventstore.codec import Codec

_MAX_VERSION: Final = 2**31 - 1
"""What the column of schema versions holds."""


def as_given(
    codec: Codec, event: JsonEvent, schema_version: int, stream_id: str, stream_version: int, *, keep_unknown: bool
) -> bytes:
    """Return the JSON of an event as it is given.

    Args:
        codec: The store's codec.
        event: The event; its data is no text that has yet to be read.
        schema_version: The version that it says.
        stream_id: The stream, which an error names.
        stream_version: The number in it, which an error names.
        keep_unknown: Whether a type that is not registered may be stored unread.

    Raises:
        UnstorablePayloadError: It would not come back identical.
        ImportUnknownTypeError: Its type is not registered, and such ones are not kept.
        CodecError: No read could read it, as `Codec.interpret` says.
        InvalidArgumentError: Its type or its schema version is none, or digits of a number would be lost.
    """
    name, given = event.event_type, event.data
    assert not isinstance(given, str)  # noqa: S101 - for the type checker
    if not 0 < len(checked_text("an event's type", name)) <= MAX_NAME_LENGTH:
        raise InvalidArgumentError(f"an event's type has 1 to {MAX_NAME_LENGTH} characters")
    if not isinstance(schema_version, int) or not 0 < schema_version <= _MAX_VERSION:
        raise InvalidArgumentError(f"schema versions count from 1, not {schema_version!r}")
    if isinstance(given, JsonText):
        text, encoded = given.text, payload.encode_text(given.text, given.value, name, codec.max_payload)
    else:
        text = payload.encode_json(given, name, codec.max_payload)
        encoded = text.encode()

    def read(text: str) -> Sequence[Any]:
        stored = StoredPayload(stream_id, stream_version, name, schema_version, text)
        return [event.data for event in codec.interpret(stored, Selection(None, raw=keep_unknown))]

    try:
        read(text)
    except UnknownEventTypeError as error:
        raise ImportUnknownTypeError(error.event_type) from None
    if isinstance(given, JsonText) and not given.is_exact:
        require_kept(text, lambda text: [as_json(data) for data in read(text) if isinstance(data, BaseModel)])
    return encoded
