"""Which events of the log a reader wants, and decoding them slice by slice, as they are consumed.

Decoded events that nobody keeps are gone before Python's garbage collector looks at them, if few live at a time; see
`store.reading`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from eventstore.codec import Selection
from eventstore.errors import InvalidArgumentError
from eventstore.store.log import LogRange
from eventstore.store.reading import SLICE
from eventstore.streams import checked_text

if TYPE_CHECKING:
    from eventstore.codec import Codec, StoredEvent
    from eventstore.events import RecordedEvent

Predicate = Callable[["RecordedEvent[Any]"], bool]
"""Whether an event is wanted; asked of the decoded event."""


class Interest:
    """What a reader wants.

    Args:
        codec: Decodes events.
        selection: The models.
        stored_names: The stored types that can become them; None for all.
        categories: Only streams of these; None for all.
        where: Only events of which this is true.

    Attributes:
        wanted: As much of it as the log itself looks at.
    """

    def __init__(
        self,
        codec: Codec,
        selection: Selection,
        *,
        stored_names: Sequence[str] | None,
        categories: Sequence[str] | None = None,
        where: Predicate | None = None,
    ) -> None:
        self.wanted = LogRange(categories, stored_names)
        self._decoder = codec.pages(selection)
        self._where = where

    @staticmethod
    def of(
        codec: Codec, form: Any, *, categories: Sequence[str] | None = None, where: Predicate | None = None
    ) -> Interest:
        """Return what is wanted in the words of `read_all`.

        Raises:
            InvalidArgumentError: An argument is not what it must be.
        """
        selection = Selection.of(form)
        return Interest(
            codec,
            selection,
            stored_names=selection.stored_names(codec.types),
            categories=checked_categories(categories),
            where=where,
        )

    def slices(self, stored: Sequence[StoredEvent], start: int = 0) -> Iterator[list[RecordedEvent[Any]]]:
        """Yield the wanted ones among stored events, from one on, some at a time; a slice may be empty.

        Raises:
            CodecError: An event cannot be read.
        """
        for first in range(start, len(stored), SLICE):
            events = self._decoder.events(stored[first : first + SLICE])
            yield events if self._where is None else [event for event in events if self._where(event)]


def checked_categories(categories: Sequence[str] | None) -> list[str] | None:
    """Return categories.

    Raises:
        InvalidArgumentError: They are none.
    """
    if isinstance(categories, str):
        raise InvalidArgumentError("categories is a sequence: pass ['order'], not 'order'")
    return None if categories is None else [checked_text("a category", category) for category in categories]
