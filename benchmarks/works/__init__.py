"""The rows of the table, in its order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.works import (
    appends,
    big,
    contention,
    importing,
    latency,
    loading,
    old_snapshot,
    projecting,
    publishing,
    reading,
    relay_memory,
    relaying,
)

if TYPE_CHECKING:
    from benchmarks.context import Context
    from benchmarks.results import Row


class Work(NamedTuple):
    """A row's measurement, and whether it needs the big log, or a broker and a server whose log can be decoded."""

    measure: Callable[[Context], Awaitable[Row]]
    big: bool = False
    kafka: bool = False


WORKS: Final = {
    "appends-32": Work(appends.by_32),
    "appends-256": Work(appends.by_256),
    "latency": Work(latency.measure),
    "contention": Work(contention.measure),
    "old-snapshot": Work(old_snapshot.measure),
    "import": Work(importing.measure),
    "load": Work(loading.by_replay),
    "snapshot": Work(loading.with_snapshot),
    "read": Work(reading.measure),
    "publish": Work(publishing.measure, kafka=True),
    "publish-latency": Work(relaying.to_consumer, kafka=True),
    "project": Work(projecting.measure),
    "project-latency": Work(relaying.to_read_model, kafka=True),
    "relay-memory": Work(relay_memory.measure, kafka=True),
    "big-recent": Work(big.recent, big=True),
    "big-old": Work(big.old, big=True),
}


def chosen(names: str | None) -> list[str]:
    """Return the rows that are meant: `appends` means both rows that begin so.

    Raises:
        ValueError: A name is none.
    """
    if names is None:
        return list(WORKS)
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if not any(_is_meant(row, name) for row in WORKS):
            raise ValueError(f"there is no row {name!r}; there are: {', '.join(WORKS)}")
    return [row for row in WORKS if any(_is_meant(row, name) for name in wanted)]


def _is_meant(row: str, name: str) -> bool:
    return row == name or row.startswith(f"{name}-")
