"""Events as they come from the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


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

    def __repr__(self) -> str:
        return f"StoredEvent({self.event_type} v{self.stream_version} of {self.stream_id}, position={self.position})"


class StoredPayload(NamedTuple):
    """As much of a stored event as says what it is today, and which one it is when that fails."""

    stream_id: str
    stream_version: int
    event_type: str
    schema_version: int
    data: str

    def __repr__(self) -> str:
        return f"StoredPayload({self.event_type} v{self.stream_version} of {self.stream_id})"


Stored = StoredEvent | StoredPayload
