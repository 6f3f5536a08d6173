"""Checkpoints and leases in memory: the few named queries that subscriptions ask, answered from dictionaries."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from eventstore.db import Queries
from eventstore.errors import ClosedError, ConfigurationError

if TYPE_CHECKING:
    from uuid import UUID

Row = Sequence[Any]


class Place(NamedTuple):
    """A checkpoint, as its row is."""

    position: int
    event_id: UUID | None
    epoch: int


@dataclass
class _Held:
    owner: str
    epoch: int
    expires_at: float


@dataclass
class Places:
    """What a backend keeps for its readers."""

    checkpoints: dict[str, Place] = field(default_factory=dict)
    leases: dict[str, _Held] = field(default_factory=dict)


class PlacesSession:
    """Answers the queries of `sql/subscriptions.sql` that need no database.

    Args:
        places: What is committed.
        own: What the transaction has written, if it works in one.
        check: Raises when the store or the transaction is closed.
    """

    def __init__(self, places: Places, own: dict[str, Place] | None, *, check: Callable[[], None]) -> None:
        self.queries = Queries("eventstore")
        self._places = places
        self._own = own
        self._check = check

    @property
    def is_open(self) -> bool:
        """Whether the transaction goes on."""
        try:
            self._check()
        except ClosedError:
            return False
        return True

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Answer a named query with rows."""
        row = await self.fetchrow(name, *args)
        return [] if row is None else [row]

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Answer a named query with its first row.

        Raises:
            ConfigurationError: It is one that only a database answers.
        """
        self._check()
        answer: Callable[..., Row | None] | None = getattr(self, f"_{name}", None)
        if answer is None:
            raise ConfigurationError(f"the store in memory does not answer {name!r}: use one on PostgreSQL")
        return answer(*args)

    # --- checkpoints -------------------------------------------------------------------------------------------------

    def _checkpoint(self, name: str) -> Place | None:
        return (self._own or {}).get(name) or self._places.checkpoints.get(name)

    def _keep(self, name: str, place: Place) -> None:
        (self._places.checkpoints if self._own is None else self._own)[name] = place

    def _load_checkpoint(self, name: str) -> Row | None:
        return self._checkpoint(name)

    def _claim_checkpoint(self, name: str, position: int, event_id: UUID | None, epoch: int) -> Row | None:
        kept = self._checkpoint(name) or Place(position, event_id, epoch)
        if kept.epoch > epoch:
            return None
        self._keep(name, kept._replace(epoch=epoch))
        return self._checkpoint(name)

    def _move_checkpoint(self, name: str, position: int, event_id: UUID | None, epoch: int) -> Row | None:
        kept = self._checkpoint(name)
        if kept is None or kept.epoch != epoch or kept.position > position:
            return None
        self._keep(name, Place(position, event_id, epoch))
        return (position,)

    def _save_checkpoint(self, name: str, position: int, event_id: UUID | None, epoch: int, since: int) -> Row | None:
        kept = self._checkpoint(name)
        if kept is None or kept.position != since or kept.epoch > epoch:
            return None
        self._keep(name, Place(position, event_id, epoch))
        return (position,)

    def _reset_checkpoint(self, name: str, position: int, event_id: UUID | None, epoch: int) -> Row | None:
        self._keep(name, Place(position, event_id, epoch))
        return (position,)

    def _delete_checkpoint(self, name: str) -> Row | None:
        self._places.checkpoints.pop(name, None)
        return None

    # --- leases ------------------------------------------------------------------------------------------------------

    def _acquire_lease(self, name: str, owner: str, seconds: timedelta) -> Row | None:
        held = self._places.leases.get(name)
        if held is not None and held.owner != owner and held.expires_at > _now():
            return None
        epoch = 1 if held is None else held.epoch + (held.owner != owner)
        self._places.leases[name] = _Held(owner, epoch, _now() + seconds.total_seconds())
        return (epoch,)

    def _seize_lease(self, name: str, owner: str, seconds: timedelta) -> Row | None:
        held = self._places.leases.get(name)
        epoch = 1 if held is None else held.epoch + 1
        self._places.leases[name] = _Held(owner, epoch, _now() + seconds.total_seconds())
        return (epoch,)

    def _renew_lease(self, name: str, owner: str, epoch: int, seconds: timedelta) -> Row | None:
        held = self._places.leases.get(name)
        if held is None or (held.owner, held.epoch) != (owner, epoch):
            return None
        held.expires_at = _now() + seconds.total_seconds()
        return (epoch,)

    def _release_lease(self, name: str, owner: str, epoch: int) -> Row | None:
        held = self._places.leases.get(name)
        if held is not None and (held.owner, held.epoch) == (owner, epoch):
            held.expires_at = -1.0
        return None

    def _lease_owner(self, name: str) -> Row | None:
        held = self._places.leases.get(name)
        return (held.owner,) if held is not None and held.expires_at > _now() else None

    # --- for people --------------------------------------------------------------------------------------------------

    def _report_follower(self, *_: Any) -> Row | None:
        return None


def _now() -> float:
    return asyncio.get_running_loop().time()
