"""The choices, in the order of the page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final

from benchmarks.storage.choices import (
    ageing,
    categories,
    columns,
    compression,
    event_ids,
    hot,
    payloads,
    stream_ids,
    vacuuming,
)

if TYPE_CHECKING:
    from benchmarks.storage.run import Finding, Run

CHOICES: Final[dict[str, Callable[[Run], Awaitable[Finding]]]] = {
    "event-ids": event_ids.measure,
    "categories": categories.measure,
    "columns": columns.measure,
    "payloads": payloads.measure,
    "compression": compression.measure,
    "stream-ids": stream_ids.measure,
    "hot-tables": hot.measure,
    "vacuuming": vacuuming.measure,
    "ageing": ageing.measure,
}


def chosen(names: str | None) -> list[str]:
    """Return the choices that are meant.

    Raises:
        ValueError: A name is none.
    """
    wanted = list(CHOICES) if names is None else [name.strip() for name in names.split(",")]
    for name in wanted:
        if name not in CHOICES:
            raise ValueError(f"there is no choice {name!r}; there are: {', '.join(CHOICES)}")
    return [name for name in CHOICES if name in wanted]
