"""The rows that go into every variant: made once, from a seed, and kept in an unlogged table of their own.

Event ids carry the time at which the event came, 10,000 a second, so that UUIDv7 ids grow as they do in life; so every
run with the same seed has the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from benchmarks.domain import DEPOSITS
from benchmarks.filling import PER_STREAM, stream_name
from benchmarks.payload import fields
from eventstore import Metadata
from eventstore.clock import system_clock, uuid7
from eventstore.codec import Codec
from examples.loans.application import LoanApplication
from examples.loans.events import event_types
from examples.loans.rows import read_rows
from examples.loans.state import State

if TYPE_CHECKING:
    import random

    from benchmarks.storage.run import Run

DEPOSITS_SET: Final = "deposits"
LOANS_SET: Final = "loans"
DOCUMENTS_SET: Final = "documents"
LONG_STREAM: Final = "audit-log"
"""One event in a hundred goes to this one stream."""
LOANS: Final = 262_200
EVENTS_A_DOCUMENT: Final = 16
SLICES: Final = 50
"""A round appends one event for every fifty in the log."""

_BEGAN: Final = datetime(2024, 1, 1, tzinfo=UTC)
_PACE: Final = timedelta(microseconds=100)
_TOGETHER: Final = 1_000
_MAX_PAYLOAD: Final = 1024 * 1024
_JSON: Final = [event.model_dump_json() for event in DEPOSITS]
_COLUMNS: Final = (
    "n",
    "stream_number",
    "stream_id",
    "stream_version",
    "event_id",
    "random_id",
    "event_type",
    "schema_version",
    "data",
    "metadata",
    "correlation_id",
    "causation_id",
    "occurred_at",
    "recorded_at",
)
_TABLE: Final = """
CREATE UNLOGGED TABLE source.{name} (
    n bigint PRIMARY KEY, stream_number bigint, stream_id text COLLATE "C", stream_version bigint,
    event_id uuid, random_id uuid, event_type text, schema_version integer, data text, metadata text,
    correlation_id text, causation_id text, occurred_at timestamptz, recorded_at timestamptz
) WITH (autovacuum_enabled = off)
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A set of rows.

    Attributes:
        name: The table's name in the schema `source`.
        events: How many rows there are in the order of life; the last ones are appended in the rounds.
        slice: How many of them each round appends.
        rounds: How many rounds they last for, the warm-up included.
    """

    name: str
    events: int
    slice: int
    rounds: int

    @property
    def base(self) -> int:
        """How many rows the log has before the rounds begin."""
        return self.events - self.rounds * self.slice

    def taken(self, number: int) -> tuple[int, int]:
        """Return after which row and up to which one the `number`-th round (from 0) appends."""
        after = self.base + number * self.slice
        return after, after + self.slice

    def old(self, number: int) -> tuple[int, int]:
        """Return the same for appends to streams drawn from the whole log."""
        after = self.events + number * self.slice
        return after, after + self.slice


class _Ids:
    """Ids from a seed: the `n`-th event's UUIDv7, and random ones."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def timed(self, at: datetime) -> UUID:
        value = int(at.timestamp() * 1000) << 80 | self._chance.getrandbits(80)
        return UUID(int=value & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62)

    def random(self) -> UUID:
        return UUID(int=self._chance.getrandbits(128), version=4)


async def source(run: Run, name: str) -> Source:
    """Return a set of rows; the first time, it is made."""
    if name in run.sources:
        return run.sources[name]
    make, events = {
        DEPOSITS_SET: (_deposits, run.events),
        LOANS_SET: (_loans, min(run.events, LOANS)),
        DOCUMENTS_SET: (_documents, max(run.events // 20, 500)),
    }[name]
    made = Source(name, events, max(events // SLICES, 1), run.rounds + 1)
    run.tell(f"making {events:,} rows: {name}")
    ids = _Ids(run.chance)
    await run.connection.execute("CREATE SCHEMA IF NOT EXISTS source")
    await run.connection.execute(_TABLE.format(name=name))
    await run.connection.copy_records_to_table(
        name, schema_name="source", columns=_COLUMNS, records=_completed(make(made, run.chance), ids)
    )
    await run.connection.execute(f"VACUUM (ANALYZE) source.{name}")
    run.sources[name] = made
    return made


Given = tuple[int, str, int, str, str, str | None, datetime | None]
"""A stream's number and id, the version in it, the event's type, data and metadata, and when it occurred."""


def _completed(given: Iterator[Given], ids: _Ids) -> Iterator[tuple[Any, ...]]:
    at = _BEGAN
    for n, (number, stream_id, version, event_type, data, metadata, occurred_at) in enumerate(given, start=1):
        at += _PACE
        yield (
            *(n, number, stream_id, version, ids.timed(at), ids.random(), event_type, 1, data, metadata, None, None),
            *(occurred_at or at, at),
        )


def _deposits(made: Source, chance: random.Random) -> Iterator[Given]:
    """Yield streams of 20 events that grow side by side, one long one between them, and then events of old streams."""
    together = max(10, min(_TOGETHER, made.events // 200))
    versions: list[int] = []
    audited = ordinary = 0
    for n in range(made.events):
        data = _JSON[n & 1023]
        if n % 100 == 0:
            audited += 1
            yield 0, LONG_STREAM, audited, "Deposited", data, None, None
            continue
        block, within = divmod(ordinary, together * PER_STREAM)
        index = block * together + within % together
        ordinary += 1
        if index == len(versions):
            versions.append(0)
        versions[index] += 1
        yield index + 1, _named(index), versions[index], "Deposited", data, None, None
    for n in range(made.rounds * made.slice):
        index = chance.randrange(len(versions))
        versions[index] += 1
        yield index + 1, _named(index), versions[index], "Deposited", _JSON[n & 1023], None, None


def _named(index: int) -> str:
    """Return a stream's id; one stream in ten is of another category."""
    return stream_name(index) if index % 10 else stream_name(index).replace("account-", "transfer-")


def _loans(made: Source, _: random.Random) -> Iterator[Given]:
    """Yield the example's events as its commands make them and the codec encodes them."""
    codec = Codec(event_types, clock=system_clock, new_id=uuid7, max_payload=_MAX_PAYLOAD)
    applications: dict[str, tuple[int, LoanApplication]] = {}
    for row in read_rows(made.events):
        if row.application not in applications:
            applications[row.application] = (len(applications) + 1, LoanApplication(row.application, State()))
        number, application = applications[row.application]
        row.run(application)
        event = codec.encode(application.pending[-1], Metadata(actor=row.resource))
        stream_id = application.stream_id
        yield number, stream_id, row.step, event.event_type, event.data, event.metadata, event.occurred_at


def _documents(made: Source, _: random.Random) -> Iterator[Given]:
    """Yield events of 4 KiB: lists of deposits, which compress as JSON does."""
    for n in range(made.events):
        deposits = [fields(n * EVENTS_A_DOCUMENT + i) for i in range(EVENTS_A_DOCUMENT)]
        block, within = divmod(n, 50 * PER_STREAM)
        index = block * 50 + within % 50
        yield index + 1, stream_name(index), within // 50 + 1, "Imported", json.dumps(deposits), None, None
