"""The figures that an operator asks for, as values: for readiness probes, for metrics, and for `eventstore status`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Final, Protocol

from eventstore.store.postgres import PostgresLog

if TYPE_CHECKING:
    from eventstore.db import Database
    from eventstore.db.database import Row
    from eventstore.store import EventStore

COUNTED: Final = 10_000
"""How many events behind are counted; beyond it their number is not worth its price."""

_FRESH: Final = 30.0
"""Seconds for which a report of somebody who holds no lease is believed."""


class Declares(Protocol):
    """An application, as far as health goes."""

    def followers(self) -> Mapping[str, str]:
        """Return the names of all workers that follow the log, each with that of its checkpoint."""
        ...


@dataclass(frozen=True, slots=True)
class Holder:
    """A session whose open transaction has drawn positions: what lies behind its floor is not settled yet.

    Attributes:
        pid: Its process in PostgreSQL: `pg_terminate_backend(pid)` ends it.
        floor: Readers do not pass this position while it is open.
        application_name: What it calls itself.
        state: What PostgreSQL says of it; `idle in transaction` waits for its client.
        seconds: How long its transaction has been open.
    """

    pid: int
    floor: int
    application_name: str | None
    state: str | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class LogHealth:
    """The log.

    Attributes:
        last_position: The position of the last event.
        last_recorded_at: When it was recorded.
        high_water: Nothing can appear late up to here; readers come no further.
        last_drawn: The last position that was handed out.
        held_back_by: Who keeps the mark below that, the lowest floor first.
    """

    last_position: int
    last_recorded_at: datetime | None
    high_water: int
    last_drawn: int
    held_back_by: tuple[Holder, ...]


@dataclass(frozen=True, slots=True)
class FollowerHealth:
    """Somebody who follows the log: a subscription, a projection, a publisher, a snapshot manager.

    Attributes:
        name: The name of its checkpoint.
        state: What it does: as it reports itself, or as its lease and its checkpoint tell; `not begun` without a
            checkpoint, `stopped` when nobody has its lease. Who has no place in the log, because Kafka feeds it, has no
            lease either: it is what it reported last.
        position: How far it has come in the log; 0 when it has not begun, or has no place there (nor then a lag).
        lag: How many positions lie between it and the last event: cheap, and at least as many as there are events.
        events_behind: How many events of the log lie behind its checkpoint, wanted or not.
        is_counted: Whether they were counted; beyond `COUNTED` it is the number of positions instead.
        seconds_behind: The age of the oldest of them; None when there is none.
        rate: Events a second that it handled lately; None when it reports none.
        owner: Who has its lease: host, process and a random part.
        reason: What it failed with.
        epoch: The epoch that its checkpoint was written under.
        updated_at: When its checkpoint moved last.
    """

    name: str
    state: str
    position: int
    lag: int
    events_behind: int
    is_counted: bool
    seconds_behind: float | None
    rate: float | None
    owner: str | None
    reason: str | None
    epoch: int | None
    updated_at: datetime | None


@dataclass(frozen=True, slots=True)
class Health:
    """The log and its followers at one moment.

    Attributes:
        log: The log.
        followers: Who follows it, by name.
    """

    log: LogHealth
    followers: tuple[FollowerHealth, ...]

    def late(self, seconds: float) -> tuple[FollowerHealth, ...]:
        """Return those who have failed, or have left an event undone for longer than some seconds."""
        return tuple(
            follower
            for follower in self.followers
            if follower.state == "failed" or (follower.seconds_behind or 0.0) > seconds
        )


async def check_health(store: EventStore, app: Declares | None = None) -> Health:
    """Look at the log of a store and at all who follow it: some cheap queries, for probes and metrics.

    Args:
        store: The store, on PostgreSQL.
        app: The application: with it, those of its workers that have never begun are among the followers.

    Raises:
        ConfigurationError: The store is in memory.
        UnavailableError: The database cannot be reached.
    """
    return await look(store.database, list(app.followers().values()) if app else ())


async def look(database: Database, declared: Sequence[str] = ()) -> Health:
    """Return the same for a database, and the names of checkpoints that may not be there yet."""
    log = PostgresLog(database)
    # Read in this order, the mark is never above what was drawn, and a holder is only shown where it matters.
    drawn, mark = await log.last_drawn(), await log.high_water()
    holders = await database.fetch("low_water_holders", database.schema) if mark < drawn else []
    last = await database.fetchrow("last_event")
    position, recorded_at = last or (0, None)
    rows = await database.fetch("look_at_followers", list(declared), COUNTED + 1)
    return Health(
        LogHealth(position, recorded_at, mark, drawn, tuple(Holder(*row) for row in holders)),
        tuple(_follower(row, position) for row in rows),
    )


def _follower(row: Row, last_position: int) -> FollowerHealth:
    name, position, follows, epoch, updated_at, count, age, reported, rate, reason, reported_by, report_age, owner = row
    lag = max(0, last_position - (position or 0)) if follows else 0
    is_counted = count <= COUNTED
    runs = owner is not None
    its_own = reported is not None and runs and owner.startswith(f"{reported_by}:")
    is_idle = reported in {"waiting", "backing off"}
    if its_own and reported not in {"working", "starting"}:
        state = reported
    elif runs:
        state = "catching up" if count else "live"
    elif reported is not None and (not follows or reported == "failed" or (is_idle and report_age < _FRESH)):
        state = reported
    else:
        state = "not begun" if position is None else "stopped"
    return FollowerHealth(
        name,
        state,
        position or 0,
        lag,
        count if is_counted else lag,
        is_counted,
        age,
        rate if runs or not follows else None,
        owner,
        reason if state == "failed" else None,
        epoch,
        updated_at,
    )
