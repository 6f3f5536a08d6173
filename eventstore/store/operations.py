"""What can be done with a store and, in the same words, inside a transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, overload

from pydantic import BaseModel
from typing_extensions import TypeForm

from eventstore.codec import Selection
from eventstore.errors import EmptyAppendError, InvalidArgumentError
from eventstore.events import BEGINNING, NewEvent, Position, in_utc, position_number
from eventstore.metadata import Metadata, current_metadata
from eventstore.store.log import LAST_VERSION, AppendRequest, LogRange, StreamRange
from eventstore.store.reading import EventIterator, log_pages, stream_pages
from eventstore.streams import ExpectedVersion, StreamId, checked_stream_id, checked_text, wire_version

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from datetime import datetime

    from eventstore.codec import Codec, EventTypes
    from eventstore.events import AppendResult, StreamInfo
    from eventstore.store.log import Log

T = TypeVar("T")
R_co = TypeVar("R_co", covariant=True)
R = TypeVar("R")

_NO_SEQUENCES: Final = (BaseModel, NewEvent, str, bytes)
"""What could be taken for a sequence of events by mistake."""

LoadListener = Callable[[str, int, float, bool], None]
"""Hears of a loaded aggregate: its stream, the events replayed, and the seconds it took."""


class RepositoryKind(Protocol[R_co]):
    """Something a repository can be made for: an aggregate class or a decider."""

    def __repository__(self, operations: Operations) -> R_co:
        """Return the repository for it on a store or transaction."""
        ...


class Operations(ABC):
    """Appending and reading, on a store (each call by itself) or in a transaction (all calls together)."""

    def __init__(self, log: Log, codec: Codec) -> None:
        self._log = log
        self._codec = codec
        self.on_load: list[LoadListener] = []

    @property
    def event_types(self) -> EventTypes:
        """The registered event types."""
        return self._codec.types

    @property
    def log(self) -> Log:
        """The log underneath: stored events without models, for the framework's own workers."""
        return self._log

    @property
    def codec(self) -> Codec:
        """The codec, for the framework's own workers."""
        return self._codec

    # --- writing -------------------------------------------------------------------------------------------------

    @abstractmethod
    async def append(
        self,
        stream_id: str | StreamId,
        events: Sequence[BaseModel | NewEvent],
        *,
        expected_version: int | ExpectedVersion,
        metadata: Metadata | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the public contract: a time-out has an outcome to report
    ) -> AppendResult:
        """Append events to a stream, all or none.

        Args:
            stream_id: The stream, `category-key`.
            events: The events in order, each a registered model's instance or a `NewEvent` around one.
            expected_version: The version the stream must be at (0 or `NO_STREAM` for a new one), `STREAM_EXISTS` or
                `ANY`.
            metadata: What is recorded beside them; it wins over the metadata that applies here, and an event's own
                wins over it.
            timeout: Seconds after which the call gives up.

        Returns:
            The versions, position and ids. When the same ids had been appended before, the original result.

        Raises:
            WrongExpectedVersionError: The stream is at another version; nothing was appended.
            IdempotencyError: The ids were appended before, as something else.
            InvalidArgumentError: The stream id, the events or the expected version are not what they must be.
            CodecError: An event is not registered, or would not come back identical.
            OutcomeUnknownError: The answer was lost; append the same ids again to find out.
            UnavailableError: The database cannot be reached; nothing was appended.
        """

    def _request(
        self,
        stream_id: str | StreamId,
        events: Sequence[BaseModel | NewEvent],
        expected_version: int | ExpectedVersion,
        metadata: Metadata | None,
    ) -> AppendRequest:
        """Check and encode an append; everything wrong with it is said here, before anything is sent."""
        stream = checked_stream_id(stream_id)
        expected = wire_version(expected_version)
        if type(events) is not list and (isinstance(events, _NO_SEQUENCES) or not isinstance(events, Sequence)):
            raise InvalidArgumentError(f"events is a sequence: pass [event], not a bare {type(events).__qualname__}")
        if not events:
            raise EmptyAppendError(stream)
        outer = current_metadata()
        if metadata is not None:
            if not isinstance(metadata, Metadata):
                raise InvalidArgumentError(f"metadata is a Metadata, not {type(metadata).__qualname__}")
            outer = metadata.over(outer)
        encoded = [self._codec.encode(event, outer) for event in events]
        chosen = any(event.chosen_id for event in encoded)
        if chosen and len({event.event_id for event in encoded}) < len(encoded):
            raise InvalidArgumentError("two events of one append have the same event_id: ids are unique in a stream")
        return AppendRequest(stream, expected_version, expected, encoded, look_up_ids=chosen)

    # --- reading -------------------------------------------------------------------------------------------------

    @overload
    def read_stream(
        self,
        stream_id: str | StreamId,
        *,
        of: None = None,
        from_version: int = ...,
        to_version: int | None = ...,
        occurred_until: datetime | None = ...,
        recorded_until: datetime | None = ...,
        backwards: bool = ...,
        limit: int | None = ...,
    ) -> EventIterator[Any]: ...

    @overload
    def read_stream(
        self,
        stream_id: str | StreamId,
        *,
        of: TypeForm[T],
        from_version: int = ...,
        to_version: int | None = ...,
        occurred_until: datetime | None = ...,
        recorded_until: datetime | None = ...,
        backwards: bool = ...,
        limit: int | None = ...,
    ) -> EventIterator[T]: ...

    def read_stream(
        self,
        stream_id: str | StreamId,
        *,
        of: Any = None,
        from_version: int = 1,
        to_version: int | None = None,
        occurred_until: datetime | None = None,
        recorded_until: datetime | None = None,
        backwards: bool = False,
        limit: int | None = None,
    ) -> EventIterator[Any]:
        """Read a stream; a stream that does not exist is empty.

        Args:
            stream_id: The stream.
            of: The models wanted: one, or a union; other events are passed over. With `RawEvent` in the union, they
                come raw instead; `RawEvent` alone reads everything raw. All registered types when left out.
            from_version: The first version, inclusive.
            to_version: The last version, inclusive.
            occurred_until: Only events with a business time up to this one (aware).
            recorded_until: Only events recorded up to this time (aware): the stream as it was known then.
            backwards: Newest first.
            limit: At most so many events.

        Raises:
            InvalidArgumentError: An argument is not what it must be.
            CodecError: While reading: an event is unknown, unreadable, or newer than the code.
        """
        if not _counts_from(1, from_version) or not (to_version is None or _counts_from(0, to_version)):
            raise InvalidArgumentError("versions count from 1")
        _check_limit(limit)
        selection = Selection.of(of)
        wanted = StreamRange(
            checked_stream_id(stream_id),
            min(from_version, LAST_VERSION),
            LAST_VERSION if to_version is None else min(to_version, LAST_VERSION),
            selection.stored_names(self.event_types),
            occurred_until and in_utc("occurred_until", occurred_until),
            recorded_until and in_utc("recorded_until", recorded_until),
            backwards,
        )
        return EventIterator(stream_pages(self._log, self._codec, wanted, selection, limit), limit)

    @overload
    def read_all(
        self,
        *,
        of: None = None,
        after: Position = ...,
        categories: Sequence[str] | None = ...,
        recorded_from: datetime | None = ...,
        limit: int | None = ...,
    ) -> EventIterator[Any]: ...

    @overload
    def read_all(
        self,
        *,
        of: TypeForm[T],
        after: Position = ...,
        categories: Sequence[str] | None = ...,
        recorded_from: datetime | None = ...,
        limit: int | None = ...,
    ) -> EventIterator[T]: ...

    def read_all(
        self,
        *,
        of: Any = None,
        after: Position = BEGINNING,
        categories: Sequence[str] | None = None,
        recorded_from: datetime | None = None,
        limit: int | None = None,
    ) -> EventIterator[Any]:
        """Read the log in the order of positions, up to where it is settled now; nothing can appear behind the reader.

        Args:
            of: The models wanted, as in `read_stream`.
            after: The position to read after, exclusive.
            categories: Only streams of these categories.
            recorded_from: Only events recorded at or after this time (aware).
            limit: At most so many events.

        Raises:
            InvalidArgumentError: An argument is not what it must be; while reading: it is read in a transaction (see
                `EventStore.bind`) above READ COMMITTED, whose snapshot may lack settled events.
            CodecError: While reading: an event is unknown, unreadable, or newer than the code.
        """
        _check_limit(limit)
        if isinstance(categories, str) or not (categories is None or isinstance(categories, Iterable)):
            raise InvalidArgumentError(f"categories is a sequence: pass ['order'], not {categories!r}")
        selection = Selection.of(of)
        wanted = LogRange(
            [checked_text("a category", category) for category in categories] if categories is not None else None,
            selection.stored_names(self.event_types),
            recorded_from and in_utc("recorded_from", recorded_from),
        )
        return EventIterator(log_pages(self._log, self._codec, wanted, selection, position_number(after)), limit)

    async def stream_info(self, stream_id: str | StreamId) -> StreamInfo | None:
        """Return a stream at a glance; None when it does not exist."""
        return await self._log.stream_info(checked_stream_id(stream_id))

    async def list_streams(self, *, category: str | None = None, after: str = "") -> AsyncIterator[StreamInfo]:
        """Yield the streams in the order of their ids, perhaps of one category, after a stream id."""
        checked_text("after", after)
        if category is not None:
            checked_text("a category", category)
        while page := await self._log.list_streams(after, category, limit=500):
            for info in page:
                yield info
            after = page[-1].stream_id

    # --- aggregates ----------------------------------------------------------------------------------------------

    def repository(self, kind: RepositoryKind[R]) -> R:
        """Return the repository of an aggregate class or a decider: load, save, and `execute`, which retries."""
        return kind.__repository__(self)

    def notice_load(self, stream_id: str, replayed: int, seconds: float, *, bad_snapshot: bool = False) -> None:
        """Tell whoever listens (`on_load`) what loading an aggregate cost."""
        for listener in self.on_load:
            listener(stream_id, replayed, seconds, bad_snapshot)


def _check_limit(limit: int | None) -> None:
    if limit is not None and not _counts_from(0, limit):
        raise InvalidArgumentError(f"limit counts from 0, not {limit!r}")


def _counts_from(least: int, number: int) -> bool:
    return isinstance(number, int) and number >= least
