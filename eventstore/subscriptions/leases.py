"""Leases: one worker at a time does a piece of work; each new owner gets a higher epoch, which fences the old ones.

A lease is a row with the server's time, never a session lock, so that it works through transaction poolers.

    free or run out --acquire--> held (epoch + 1) --renew in time--> held
                                    | renewal late, or somebody else's epoch
                                    v
                                  lost: the work is cancelled, `LeaseLostError`
"""

from __future__ import annotations

import asyncio
import os
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from eventstore.db import Answering
from eventstore.errors import LeaseLostError, UnavailableError
from eventstore.lifecycle import running

if TYPE_CHECKING:
    from eventstore.db import Session

LEASE_SECONDS: Final = 3.0
"""How long a lease lasts without being renewed: it bounds how long a dead worker's work waits."""


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that is held.

    Attributes:
        name: The piece of work.
        owner: This worker: host, process and a random part.
        epoch: Rises with every new owner.
    """

    name: str
    owner: str
    epoch: int


def new_owner() -> str:
    """Return a name for this worker that nobody else has."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Leases:
    """The leases of a store.

    Args:
        session: Where the queries run.
        seconds: How long a lease lasts without being renewed.
    """

    def __init__(self, session: Session, *, seconds: float = LEASE_SECONDS) -> None:
        self._session = Answering(session)
        self._seconds = seconds
        self._for = timedelta(seconds=seconds)

    @property
    def look_again(self) -> float:
        """How many seconds whoever waits for a lease lets pass between two looks."""
        return self._seconds / 6

    async def try_acquire(self, name: str, owner: str) -> Lease | None:
        """Take a lease if it is free; None when somebody else holds it."""
        row = await self._session.fetchrow("acquire_lease", name, owner, self._for)
        return Lease(name, owner, row[0]) if row else None

    async def seize(self, name: str, owner: str) -> Lease:
        """Take a lease whoever holds it; that one loses it when it renews, and its epoch is too old from now on."""
        row = await self._session.fetchrow("seize_lease", name, owner, self._for)
        assert row is not None  # noqa: S101 - RETURNING
        return Lease(name, owner, row[0])

    async def renew(self, lease: Lease) -> None:
        """Keep a lease for another while.

        Raises:
            LeaseLostError: Somebody else holds it now.
        """
        if await self._session.fetchrow("renew_lease", lease.name, lease.owner, lease.epoch, self._for) is None:
            raise LeaseLostError(lease.name)

    async def release(self, lease: Lease) -> None:
        """Give a lease back, so that the next worker need not wait for it to run out."""
        await self._session.fetch("release_lease", lease.name, lease.owner, lease.epoch)

    async def require(self, lease: Lease) -> None:
        """Inside a transaction: prove that the lease is held, and keep it from changing hands until the commit.

        Raises:
            LeaseLostError: Somebody else holds it now.
        """
        if await self._session.fetchrow("hold_lease", lease.name, lease.owner, lease.epoch) is None:
            raise LeaseLostError(lease.name)

    @asynccontextmanager
    async def holding(self, name: str, *, seize: bool = False) -> AsyncIterator[Lease]:
        """Wait for a lease, renew it in the background of the block, and give it back at the end.

        Args:
            name: The piece of work.
            seize: Do not wait for whoever holds it, but take it from them.

        Raises:
            LeaseLostError: It was lost; the block was cancelled at its next await.
        """
        owner = new_owner()
        lease = await (self.seize if seize else self.wait_for)(name, owner)
        async with self.keeping(lease):
            yield lease

    @asynccontextmanager
    async def keeping(self, lease: Lease) -> AsyncIterator[Lease]:
        """Renew a lease that was taken in the background of the block, and give it back at the end.

        Raises:
            LeaseLostError: It was lost; the block was cancelled at its next await.
        """
        try:
            async with running(self.keep(lease)):
                yield lease
        finally:
            await self.release_quietly(lease)

    async def owner(self, name: str) -> str | None:
        """Return who holds a lease now."""
        row = await self._session.fetchrow("lease_owner", name)
        return row[0] if row else None

    async def wait_for(self, name: str, owner: str) -> Lease:
        """Take a lease when it is free."""
        while (lease := await self.try_acquire(name, owner)) is None:  # noqa: ASYNC110 - the holder is elsewhere
            await asyncio.sleep(self.look_again)
        return lease

    async def keep(self, lease: Lease) -> None:
        """Renew in time, for ever; a database that cannot be reached for a whole lease means that the lease is lost.

        Raises:
            LeaseLostError: It was lost.
        """
        loop = asyncio.get_running_loop()
        good_until = loop.time() + self._seconds
        while True:
            await asyncio.sleep(self._seconds / 3)
            asked = loop.time()
            try:
                async with asyncio.timeout_at(good_until):
                    await self.renew(lease)
                good_until = asked + self._seconds
            except UnavailableError:
                if loop.time() >= good_until:
                    raise LeaseLostError(lease.name) from None
            except TimeoutError:
                raise LeaseLostError(lease.name) from None

    async def release_quietly(self, lease: Lease) -> None:
        """Give a lease back, on the way out: where that fails, it runs out by itself."""
        try:
            async with asyncio.timeout(self._seconds):
                await self.release(lease)
        except (UnavailableError, TimeoutError):
            return  # it runs out by itself
