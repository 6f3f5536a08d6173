"""A chunk: rows that go in together, in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from eventstore.bulk.encoding import HEADER, TRAILER, front, microseconds
from eventstore.bulk.errors import ImportRowError, ImportVersionError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eventstore.bulk.encoding import EncodedRow

_BLOCK: Final = 256
"""Rows sent at a time."""

_LONG_AGO: Final = -(2**63)

Heads = dict[str, list[int]]
"""Where streams are: the last version of each, and when that was recorded, as PostgreSQL counts."""


class Chunk:
    """Rows that are encoded and wait for their versions.

    Attributes:
        before: How many rows of the source come before it.
        rows: The rows, in the order of the source.
        size: Their bytes.
    """

    def __init__(self, before: int) -> None:
        self.before = before
        self.rows: list[EncodedRow] = []
        self.size = 0

    def add(self, row: EncodedRow) -> None:
        """Add a row."""
        self.rows.append(row)
        self.size += len(row.rest)

    @property
    def after(self) -> int:
        """How many rows of the source are done when it is."""
        return self.before + len(self.rows)

    @property
    def last_stream_id(self) -> str:
        """The stream of its last row."""
        return self.rows[-1].stream_id

    @property
    def last_event_id(self) -> UUID:
        """The id of its last row's event."""
        return UUID(bytes=self.rows[-1].event_id)

    def stream_ids(self) -> list[str]:
        """Return its streams, each once, in the order in which all writers lock them."""
        return sorted({row.stream_id for row in self.rows})

    def ids(self) -> list[UUID]:
        """Return the rows' ids."""
        return [UUID(bytes=row.event_id) for row in self.rows]

    def numbered(self, heads: Heads, now: int) -> list[bytes]:
        """Return the chunk as COPY takes it: each row gets the next version of its stream, and its time.

        Args:
            heads: Where its streams are; moved on to where the chunk leaves them.
            now: The server's time, as PostgreSQL counts.

        Raises:
            ImportRowError: A row says another version than the next one, or an earlier time than the last one.
        """
        pieces = [HEADER]
        add = pieces.append
        for row in self.rows:
            head = heads[row.stream_id]
            version, recorded_at = head[0] + 1, row.recorded_at
            if row.stream_version is not None and row.stream_version != version:
                raise ImportVersionError(row.number, row.stream_id, version, row.stream_version, line=row.line)
            if recorded_at is None:
                recorded_at = max(now, head[1])
            elif recorded_at < head[1]:
                raise ImportRowError(
                    row.number,
                    f"its recorded_at is earlier than that of the event before it in {row.stream_id!r}",
                    line=row.line,
                )
            head[:] = version, recorded_at
            add(front(version, 8, recorded_at))
            add(row.rest)
        add(TRAILER)
        return list(_blocks(pieces))

    def doubled(self) -> ImportRowError | None:
        """Return the refusal of the first row whose id an earlier one of the same stream has."""
        seen: set[tuple[str, bytes]] = set()
        for row in self.rows:
            key = (row.stream_id, row.event_id)
            if key in seen:
                return ImportRowError(row.number, "an earlier row of its stream has the same event_id", line=row.line)
            seen.add(key)
        return None


def heads_of(stream_ids: Sequence[str], rows: Sequence[Sequence[Any]]) -> tuple[Heads, int]:
    """Return where streams are, and the server's time, from what a query answered for them in the same order."""
    heads = {
        stream_id: [version, _LONG_AGO if recorded_at is None else microseconds(recorded_at)]
        for stream_id, (version, recorded_at, _) in zip(stream_ids, rows, strict=True)
    }
    return heads, microseconds(rows[0][2]) if rows else 0


def _blocks(pieces: Sequence[bytes]) -> Iterator[bytes]:
    for begin in range(0, len(pieces), 2 * _BLOCK):
        yield b"".join(pieces[begin : begin + 2 * _BLOCK])
