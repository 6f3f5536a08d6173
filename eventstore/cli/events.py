"""Events on their way to people and machines: how they are read, and how they are printed."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eventstore.cli.output import Columns, shown_json, shown_time
from eventstore.codec import Selection
from eventstore.errors import InvalidArgumentError
from eventstore.events import RawEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eventstore.cli.options import Cli
    from eventstore.cli.output import Output
    from eventstore.events import RecordedEvent
    from eventstore.metadata import Metadata
    from eventstore.runtime import Application

TIME_WIDTH: Final = 24
TYPE_WIDTH: Final = 24
STREAM_WIDTH: Final = 20


@dataclass(frozen=True, slots=True)
class Reading:
    """How events are read.

    Attributes:
        app: The application whose models read them; None to read them as they are stored.
        selection: What a stored event may become.
        stored_names: The stored types to ask for; None for all.
    """

    app: Application | None
    selection: Selection
    stored_names: list[str] | None

    @staticmethod
    def chosen(cli: Cli, types: Sequence[str] | None, *, raw: bool) -> Reading:
        """Return how to read events of these types; without an application, as they are stored.

        Raises:
            InvalidArgumentError: The application has no such type.
        """
        if raw or not cli.settings.app:
            return Reading(None, Selection(frozenset(), raw=True), list(types) if types else None)
        registered = {event_type.name: event_type.model for event_type in cli.app.events}
        if not types:
            return Reading(cli.app, Selection(frozenset(registered.values()), raw=True), None)
        for name in types:
            if name not in registered:
                known = ", ".join(sorted(registered))
                raise InvalidArgumentError(f"there is no event type {name!r}, there are: {known}; --raw reads any")
        selection = Selection(frozenset(registered[name] for name in types), raw=False)
        return Reading(cli.app, selection, selection.stored_names(cli.app.events))

    @property
    def type_width(self) -> int:
        """How wide a column of event types is best."""
        return max((len(event_type.name) for event_type in self.app.events), default=0) if self.app else TYPE_WIDTH


class EventPrinter:
    """Prints events one after the other, each on a line.

    Args:
        output: Where to print.
        with_stream: Whether they are of several streams.
        type_width: The width of the column of event types.
    """

    def __init__(self, output: Output, *, with_stream: bool, type_width: int) -> None:
        self._output = output
        self._with_stream = with_stream
        place = [("POSITION", 10, "right"), ("STREAM", STREAM_WIDTH, "left")] if with_stream else []
        event = [("VERSION", 7, "right"), ("OCCURRED", TIME_WIDTH, "left"), ("TYPE", type_width, "left")]
        self._columns = Columns(output, *place, *event, ("DATA", 0, "left"))  # type: ignore[arg-type]

    def print(self, event: RecordedEvent[Any]) -> None:
        """Print an event."""
        if self._output.as_json:
            self._output.document(event_document(event))
            return
        place = (str(event.position), event.stream_id) if self._with_stream else ()
        cells = (str(event.stream_version), shown_time(event.occurred_at), event.event_type)
        styles = ("dim", "cyan")[: len(place)]
        self._columns.line(*place, *cells, shown_json(data_of(event)), styles=(*styles, "cyan", "dim", "bold", ""))

    def flush(self) -> None:
        """Let what was printed be seen."""
        sys.stdout.flush()


def data_of(event: RecordedEvent[Any]) -> Any:
    """Return an event's data as JSON values."""
    if isinstance(event.data, RawEvent):
        return dict(event.data.data)
    return event.data.model_dump(mode="json", by_alias=True, round_trip=True)


def event_document(event: RecordedEvent[Any]) -> dict[str, Any]:
    """Return an event as JSON."""
    return {
        "position": event.position,
        "stream_id": event.stream_id,
        "stream_version": event.stream_version,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "schema_version": event.schema_version,
        "data": data_of(event),
        "metadata": _metadata_document(event.metadata),
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
    }


def _metadata_document(metadata: Metadata) -> dict[str, Any]:
    named = {name: getattr(metadata, name) for name in ("correlation_id", "causation_id", "command_id", "actor")}
    document = {name: value for name, value in named.items() if value is not None}
    return document | ({"extra": dict(metadata.extra)} if metadata.extra else {})
