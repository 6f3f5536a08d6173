"""Exporting: the log, or a part of it, as it is stored, page by page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.bulk.jsonl import jsonl
from eventstore.store.log import LogRange, StreamRange
from eventstore.streams import checked_stream_id

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from eventstore.codec import StoredEvent
    from eventstore.store import EventStore
    from eventstore.streams import StreamId

_PAGE = 500


async def export_log(
    store: EventStore, *, after: int = 0, categories: Sequence[str] | None = None
) -> AsyncGenerator[list[str], None]:
    """Yield the lines of the log's events in the order of positions, up to where it is settled now.

    Events come as they are stored: no model is needed to read them.
    """
    up_to = await store.log.high_water()
    wanted = LogRange(list(categories) if categories else None)
    while True:
        page = await store.log.read_all(wanted, after, up_to, _PAGE)
        if page.last_position is None:
            return
        after = page.last_position
        yield _lines(store, page.events)


async def export_stream(
    store: EventStore, stream_id: str | StreamId, *, from_version: int = 1
) -> AsyncGenerator[list[str], None]:
    """Yield the lines of a stream's events."""
    wanted = StreamRange(checked_stream_id(stream_id), from_version)
    while page := await store.log.read_stream(wanted, _PAGE):
        yield _lines(store, page)
        wanted = wanted._replace(from_version=page[-1].stream_version + 1)


def _lines(store: EventStore, events: Sequence[StoredEvent]) -> list[str]:
    return [jsonl(event, store.codec.metadata_of(event)) for event in events]
