"""A chunk: rows that go in together, in one transaction."""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from eventstore.bulk.binary import COLUMNS, FRONT, HEADER, TRAILER, microseconds
from eventstore.bulk.errors import ImportRowError, ImportVersionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_BLOCK: Final = 1024
"""Rows sent at a time: the driver sends no more until those before are nearly gone, and asks for them only when the
event loop comes round, after some encoding; with blocks of 256 rows the server had to wait for them."""

CHUNK_BYTES: Final = 8 * 1024 * 1024
"""A chunk is full when it holds so many bytes, however few its rows."""

_LONG_AGO: Final = -(2**63)

EncodedRow = tuple[str, bytes, int | None, int | None, int, int | None, bytes]
"""A row: its stream, its event's id, the version and the recorded time that the source says, its business time (times
as PostgreSQL counts them), its line in the file that it came from, and all other columns as COPY takes them."""

Heads = dict[str, list[int]]
"""Where streams are: the last version of each, and when that was recorded, as PostgreSQL counts."""


class Chunk:
    """Rows that are encoded and wait for their versions.

    They are kept by columns: a tuple for each row would be one more object for the garbage collector to look at, again
    and again (0.4 microseconds a row).

    Attributes:
        before: How many rows of the source come before it.
        stream_ids: The stream of each row.
    """

    def __init__(self, before: int, most: int) -> None:
        self.before = before
        self.stream_ids: list[str] = []
        self._most = most
        self._size = 0
        self._event_ids: list[bytes] = []
        self._said_versions: list[int | None] = []
        self._said_times: list[int | None] = []
        self._versions: list[int] = []
        self._times: list[int] = []
        self._occurred: list[int] = []
        self._lines: list[int | None] = []
        self._rests: list[bytes] = []

    def extend(self, rows: Sequence[EncodedRow]) -> None:
        """Add rows, which come with what is known of each."""
        columns: tuple[list[Any], ...] = (
            self.stream_ids,
            self._event_ids,
            self._said_versions,
            self._said_times,
            self._occurred,
            self._lines,
            self._rests,
        )
        for column, values in zip(columns, zip(*rows, strict=True), strict=bool(rows)):
            column.extend(values)
        self._size += sum(len(row[-1]) for row in rows)

    @property
    def room(self) -> int:
        """How many rows it still takes."""
        return self._most - len(self._rests)

    @property
    def space(self) -> int:
        """How many bytes it still takes; it is full when there is none, however few its rows."""
        return CHUNK_BYTES - self._size

    @property
    def is_full(self) -> bool:
        """Whether it takes no more."""
        return self.room <= 0 or self.space <= 0

    @property
    def after(self) -> int:
        """How many rows of the source are done when it is."""
        return self.before + len(self._rests)

    @property
    def last_stream_id(self) -> str:
        """The stream of its last row."""
        return self.stream_ids[-1]

    @property
    def last_event_id(self) -> UUID:
        """The id of its last row's event."""
        return UUID(bytes=self._event_ids[-1])

    def streams(self) -> list[str]:
        """Return its streams, each once, in the order in which all writers lock them."""
        return sorted(set(self.stream_ids))

    def ids(self) -> list[UUID]:
        """Return the rows' ids."""
        return [UUID(bytes=event_id) for event_id in self._event_ids]

    def refusal(self, index: int, problem: str) -> ImportRowError:
        """Return the refusal of a row."""
        return ImportRowError(self.before + index + 1, problem, line=self._lines[index])

    def place(self, heads: Heads, now: int) -> None:
        """Give each row the next version of its stream, and its time.

        Args:
            heads: Where its streams are; moved on to where the chunk leaves them.
            now: The server's time, as PostgreSQL counts.

        Raises:
            ImportRowError: A row says another version than the next one, or an earlier time than the last one.
        """
        versions: list[int] = []
        times: list[int] = []
        rows = zip(self.stream_ids, self._said_versions, self._said_times, strict=True)
        for index, (stream_id, said_version, said_time) in enumerate(rows):
            head = heads[stream_id]
            version, last = head[0] + 1, head[1]
            if said_version is not None and said_version != version:
                row = self.before + index + 1
                raise ImportVersionError(row, stream_id, version, said_version, line=self._lines[index])
            if said_time is not None and said_time < last:
                problem = f"its recorded_at is earlier than that of the event before it in {stream_id!r}"
                raise self.refusal(index, problem)
            time = said_time if said_time is not None else max(last, now)
            head[0] = version
            head[1] = time
            versions.append(version)
            times.append(time)
        self._versions, self._times = versions, times

    def blocks(self) -> Iterator[bytes]:
        """Yield its rows, which have their places, as COPY takes them; made while the server takes those before."""
        fronts = map(
            FRONT.pack,
            repeat(len(COLUMNS)),
            repeat(8),
            self._versions,
            repeat(8),
            self._times,
            repeat(8),
            self._occurred,
            repeat(16),
            self._event_ids,
        )
        rows = zip(fronts, self._rests, strict=True)
        yield HEADER
        while block := b"".join(chain.from_iterable(islice(rows, _BLOCK))):
            yield block
        yield TRAILER

    def doubled(self) -> ImportRowError | None:
        """Return the refusal of the first row whose id an earlier one of the same stream has."""
        seen: set[tuple[str, bytes]] = set()
        for index, key in enumerate(zip(self.stream_ids, self._event_ids, strict=True)):
            if key in seen:
                return self.refusal(index, "an earlier row of its stream has the same event_id")
            seen.add(key)
        return None


def heads_of(stream_ids: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Heads, int]:
    """Return where streams are, and the server's time, from what a query answered for them in the same order."""
    heads = {
        stream_id: [version, _LONG_AGO if recorded_at is None else microseconds(recorded_at)]
        for stream_id, (version, recorded_at, _) in zip(stream_ids, rows, strict=True)
    }
    return heads, microseconds(rows[0][2]) if rows else 0
