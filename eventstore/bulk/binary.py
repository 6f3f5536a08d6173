"""PostgreSQL's binary format of COPY, as far as an import writes it."""

from __future__ import annotations

from datetime import UTC, datetime
from struct import Struct
from typing import Final

from eventstore.errors import InvalidArgumentError

COLUMNS: Final = (
    "stream_version",
    "recorded_at",
    "occurred_at",
    "event_id",
    "stream_id",
    "schema_version",
    "event_type",
    "data",
    "metadata",
    "correlation_id",
    "causation_id",
)
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

NULL: Final = b"\xff\xff\xff\xff"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


FRONT: Final = Struct(">hiqiqiqi16s")
"""How a row begins: the number of its columns, then the first four, each after its length."""


def microseconds(time: datetime) -> int:
    """Return a time as PostgreSQL counts: microseconds since 2000.

    Raises:
        InvalidArgumentError: It is naive.
    """
    try:
        since = time - _EPOCH
    except TypeError:
        raise InvalidArgumentError("its times must be aware: give them a time zone, for example tzinfo=UTC") from None
    return since.days * 86_400_000_000 + since.seconds * 1_000_000 + since.microseconds
