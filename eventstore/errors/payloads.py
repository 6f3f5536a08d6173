"""Payloads that cannot be stored, or not be read."""

from __future__ import annotations

from eventstore.errors.tree import CodecError


class UnknownEventTypeError(CodecError):
    """An event's type is not registered with the application."""

    def __init__(self, event_type: str, *, stream_id: str | None = None, stream_version: int | None = None) -> None:
        self.event_type = event_type
        self.stream_id = stream_id
        self.stream_version = stream_version
        where = f" (version {stream_version} of {stream_id!r})" if stream_id else ""
        super().__init__(
            f"the event type {event_type!r}{where} is not registered: register it with EventTypes.register, or read "
            "with of=RawEvent"
        )


class UnstorablePayloadError(CodecError):
    """An event's data would not come back from storage as it is now; nothing was sent."""

    def __init__(self, event_type: str, problem: str) -> None:
        self.event_type = event_type
        self.problem = problem
        super().__init__(f"{event_type!r} cannot be stored: {problem}")


class UnreadablePayloadError(CodecError):
    """A stored event no longer validates as its registered model: register a new version with an upcaster."""

    def __init__(self, event_type: str, schema_version: int, stream_id: str, stream_version: int, problem: str) -> None:
        self.event_type = event_type
        self.schema_version = schema_version
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.problem = problem
        super().__init__(
            f"version {stream_version} of {stream_id!r} ({event_type!r}, schema version {schema_version}) cannot be "
            f"read: {problem}; raise the model's version and add an upcaster"
        )


class UpcastError(UnreadablePayloadError):
    """An upcaster failed on a stored event: mend the upcaster, the stored event stays as it is."""


class NewerSchemaVersionError(CodecError):
    """A stored event was written by newer code than this: deploy the code that knows its schema version."""

    def __init__(self, event_type: str, found: int, known: int, stream_id: str, stream_version: int) -> None:
        self.event_type = event_type
        self.found = found
        self.known = known
        self.stream_id = stream_id
        self.stream_version = stream_version
        super().__init__(
            f"version {stream_version} of {stream_id!r} holds {event_type!r} with schema version {found}, this code "
            f"knows {known}: deploy the newer code first"
        )
