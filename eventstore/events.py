"""Events on their way in (`NewEvent`) and as they were recorded (`RecordedEvent`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import total_ordering
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, final
from uuid import UUID

from typing_extensions import TypeVar

from eventstore.errors import InvalidArgumentError
from eventstore.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

T_co = TypeVar("T_co", covariant=True, default=object)


MAX_POSITION: Final = 2**63 - 1
"""The highest place that there can be; the database counts in 64 bits."""

_POSITION_DIGITS: Final = len(str(MAX_POSITION))


@final
@total_ordering
class Position:
    """A place in the log: opaque, comparable with others of the same log, and written and read as text.

    Gaps between positions are normal: numbers are handed out before a transaction commits, and some never do.
    """

    __slots__ = ("_value",)

    def __init__(self, value: int) -> None:
        self._value = value

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read a position from its text.

        Raises:
            InvalidArgumentError: The text is not what `str()` of a position gives.
        """
        digits = isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= _POSITION_DIGITS
        if not digits or int(text) > MAX_POSITION:
            raise InvalidArgumentError(f"{text[:80]!r} is not a position: pass what str(position) gave")
        return cls(int(text))

    def __str__(self) -> str:
        return str(self._value)

    def __repr__(self) -> str:
        return f"Position({self._value})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Position) and self._value == other._value

    def __lt__(self, other: Position) -> bool:
        if not isinstance(other, Position):
            return NotImplemented
        return self._value < other._value

    def __hash__(self) -> int:
        return hash(self._value)


BEGINNING: Final = Position(0)
"""The place before the first event."""


def position_number(position: Position) -> int:
    """Return the number inside a position, for the modules that write it to PostgreSQL or Kafka."""
    if not isinstance(position, Position):
        raise InvalidArgumentError(f"{position!r} is not a Position: Position.parse() makes one of a text")
    return position._value  # noqa: SLF001 - the one place that opens it


_INFINITE: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


def in_utc(name: str, time: datetime) -> datetime:
    """Return an aware time in UTC.

    Raises:
        InvalidArgumentError: It is naive, no time at all, or beyond what UTC can express.
    """
    if not isinstance(time, datetime):
        raise InvalidArgumentError(f"{name} is a datetime, not {type(time).__qualname__}")
    if time.utcoffset() is None:  # as Python has it: a zone that says no offset makes no time aware
        raise InvalidArgumentError(f"{name} must be aware: give it a time zone, for example tzinfo=UTC")
    try:
        return time.astimezone(UTC)
    except OverflowError:
        raise InvalidArgumentError(f"{name} is not between the years 1 and 9999 in UTC") from None


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event to append, where its model alone does not say enough.

    Attributes:
        data: The event, an instance of a registered model.
        event_id: Its id; a UUIDv7 is made when it is left out. The same id appended again is the same event.
        occurred_at: The business time, aware; the moment of the append when it is left out.
        metadata: What is recorded beside it; it wins over the metadata that applies at the call.
    """

    data: BaseModel = field(repr=False)
    event_id: UUID | None = None
    occurred_at: datetime | None = None
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        # Checked here, in the caller: further on an append may share its statement with others.
        if self.event_id is not None and not isinstance(self.event_id, UUID):
            raise InvalidArgumentError(f"event_id is a uuid.UUID, not {type(self.event_id).__qualname__}")
        if self.metadata is not None and not isinstance(self.metadata, Metadata):
            raise InvalidArgumentError(f"metadata is a Metadata, not {type(self.metadata).__qualname__}")
        if self.occurred_at is not None:
            in_time = in_utc("occurred_at", self.occurred_at)
            if in_time in _INFINITE:
                raise InvalidArgumentError(
                    "the first and the last datetime of all stand for no time: the driver takes "
                    "them for PostgreSQL's infinities"
                )
            object.__setattr__(self, "occurred_at", in_time)


@dataclass(frozen=True, slots=True)
class RawEvent:
    """An event's data as it is stored, without a model: what `of=RawEvent` reads.

    Attributes:
        data: The parsed JSON of the payload.
    """

    data: Mapping[str, Any] = field(repr=False)


class RecordedEvent(NamedTuple, Generic[T_co]):
    """An event as it was recorded: immutable, and cheap, since logs hold many of them. Its repr shows no data.

    Attributes:
        position: Its place in the log.
        stream_id: The stream it belongs to.
        stream_version: Its number within the stream; the first event is 1.
        event_id: Its id, unique within its stream.
        event_type: The registered name of its type.
        schema_version: The version of its model that it was written with.
        data: The event itself.
        metadata: What was recorded beside it.
        occurred_at: The business time, in UTC.
        recorded_at: The server's time when it was appended, in UTC; it never falls within a stream.
    """

    position: Position
    stream_id: str
    stream_version: int
    event_id: UUID
    event_type: str
    schema_version: int
    data: T_co
    metadata: Metadata
    occurred_at: datetime
    recorded_at: datetime

    @property
    def correlation_id(self) -> str | None:
        """The conversation that the event belongs to."""
        return self.metadata.correlation_id

    @property
    def causation_id(self) -> str | None:
        """The id of what directly caused the event."""
        return self.metadata.causation_id

    def __repr__(self) -> str:
        return (
            f"RecordedEvent({self.event_type} v{self.stream_version} of {self.stream_id}, position={self.position}, "
            f"event_id={self.event_id})"
        )


@dataclass(frozen=True, slots=True)
class AppendResult:
    """What an append did.

    Attributes:
        stream_id: The stream.
        first_version: The version of the first appended event.
        stream_version: The version of the last one, and so of the stream after the append.
        position: The last one's place in the log: wait for it to read your own write.
        event_ids: The ids of the events, in order.
        repeated: True when these ids had been appended before and this is the original result.
    """

    stream_id: str
    first_version: int
    stream_version: int
    position: Position
    event_ids: tuple[UUID, ...]
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """A stream at a glance.

    Attributes:
        stream_id: The stream.
        category: Its category.
        version: The version of its last event, and so the number of its events.
        created_at: When its first event was recorded.
        updated_at: When its last event was recorded.
    """

    stream_id: str
    category: str
    version: int
    created_at: datetime
    updated_at: datetime
