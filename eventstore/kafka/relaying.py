"""The relay: one transaction after the other, on one producer, until something fails.

next part --records--> transaction (records and cursor) --committed--> next part
    '----nothing wanted in it--> carried along with the next transaction, or after a second in one of its own
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from eventstore.kafka.answers import finished

if TYPE_CHECKING:
    from eventstore.kafka.packing import Part
    from eventstore.kafka.taking_over import Tenure
    from eventstore.subscriptions.ahead import OneAhead

CARRY_SECONDS: Final = 1.0
"""How long the cursor may stay behind events that nobody wanted."""


class Relay:
    """Sends parts, each with the cursor that it moves.

    Args:
        tenure: The group that is worked for; the relay is the only user of its producer.
        finish_within: How long a transaction may take to finish once the relay is cancelled, in seconds.
        on_commit: Hears of each part that is committed.
        on_passed: Hears of each part in which nothing was wanted, before its cursor is committed.
    """

    def __init__(
        self,
        tenure: Tenure,
        *,
        finish_within: float,
        on_commit: Callable[[Part], None],
        on_passed: Callable[[Part], None],
    ) -> None:
        self._tenure = tenure
        self._finish_within = finish_within
        self._on_commit = on_commit
        self._on_passed = on_passed
        self._carried: Part | None = None
        self._carry_until = 0.0

    async def run(self, parts: OneAhead[Part]) -> None:
        """Send parts until something fails; a cancel lets the transaction under way finish.

        Raises:
            UnavailableError: Whether the last transaction was committed is unknown.
        """
        while True:
            part = await parts.within(self._patience())
            if part is None or self._says_nothing(part):
                if part is not None:
                    self._carry(part)
                if self._carried is None or self._patience():
                    continue
                part = self._carried
            await finished(self._commit(part), self._finish_within)

    async def _commit(self, part: Part) -> None:
        await self._tenure.commit(part)
        self._carried = None
        self._on_commit(part)

    def _says_nothing(self, part: Part) -> bool:
        """Whether nothing was wanted in a part: what is parked is written at once, as what is sent."""
        return not part.events and part.cursor.parked == self._tenure.cursor.parked

    def _carry(self, part: Part) -> None:
        if self._carried is None:
            self._carry_until = asyncio.get_running_loop().time() + CARRY_SECONDS
        self._carried = part
        self._on_passed(part)

    def _patience(self) -> float | None:
        """Return how many seconds the carried cursor can still wait; None when there is none."""
        if self._carried is None:
            return None
        return max(0.0, self._carry_until - asyncio.get_running_loop().time())
