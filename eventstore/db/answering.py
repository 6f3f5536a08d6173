"""How long whoever follows the log waits for an answer of PostgreSQL.

A connection can die without a word: a firewall forgets it, a host is gone. Nobody hears of it, and what was asked is
never answered. So what followers ask for themselves, all of it quick, is bounded; what takes its time (handlers, other
people's transactions) is not.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import UnavailableError

if TYPE_CHECKING:
    from eventstore.db.database import Row, Session
    from eventstore.db.queries import Queries

ANSWER_SECONDS: Final = 2.5
"""How long an answer may take: with all that follows on it, a follower goes on within 5 seconds."""


@asynccontextmanager
async def answering(seconds: float = ANSWER_SECONDS) -> AsyncIterator[None]:
    """Bound the block.

    Raises:
        UnavailableError: It took longer.
    """
    bound = asyncio.timeout(seconds)
    try:
        async with bound:
            yield
    except TimeoutError:
        if not bound.expired():
            raise  # somebody else's
        raise UnavailableError(
            f"PostgreSQL has not answered within {seconds:g} s; the connection is given up"
        ) from None


class Answering:
    """Runs queries on a session, each of which is answered in time.

    Args:
        session: Where they run.
    """

    def __init__(self, session: Session) -> None:
        self.queries: Queries = session.queries
        self._session = session

    async def fetch(self, name: str, *args: Any) -> list[Row]:
        """Run a named query and return its rows.

        Raises:
            UnavailableError: There was no answer in time.
        """
        async with answering():
            return await self._session.fetch(name, *args)

    async def fetchrow(self, name: str, *args: Any) -> Row | None:
        """Run a named query and return its first row.

        Raises:
            UnavailableError: There was no answer in time.
        """
        async with answering():
            return await self._session.fetchrow(name, *args)
