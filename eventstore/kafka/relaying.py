"""The relay: one transaction after the other, on one producer, until something fails.

next part --records--> transaction (records and cursor) --committed--> next part
    '----nothing wanted in it--> carried along with the next transaction, or after a second in one of its own
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from eventstore.kafka.answers import finished
from eventstore.kafka.cursor import Cursor
from eventstore.kafka.packing import Part
from eventstore.kafka.producer import RecordBatch, new_builder

if TYPE_CHECKING:
    from eventstore.kafka.ahead import OneAhead
    from eventstore.kafka.producer import TransactionalProducer
    from eventstore.subscriptions import Checkpoint

CARRY_SECONDS: Final = 1.0
"""How long the cursor may stay behind events that nobody wanted."""

_CURSOR_BYTES: Final = 64 * 1024


class Relay:
    """Sends parts, each with the cursor that it moves.

    Args:
        producer: The producer; the relay is its only user.
        cursor_topic: The topic of the cursor.
        partitions: How many partitions each topic has; it grows as topics come up.
        finish_within: How long a transaction may take to finish once the relay is cancelled, in seconds.
        on_commit: Hears of each part that is committed.
        on_passed: Hears of each part in which nothing was wanted, before its cursor is committed.
    """

    def __init__(
        self,
        producer: TransactionalProducer,
        *,
        cursor_topic: str,
        partitions: Mapping[str, int],
        finish_within: float,
        on_commit: Callable[[Part], None],
        on_passed: Callable[[Part], None],
    ) -> None:
        self._producer = producer
        self._cursor_topic = cursor_topic
        self._partitions = partitions
        self._finish_within = finish_within
        self._on_commit = on_commit
        self._on_passed = on_passed
        self._carried: Checkpoint | None = None
        self._carry_until = 0.0

    async def run(self, parts: OneAhead[Part]) -> None:
        """Send parts until something fails; a cancel lets the transaction under way finish.

        Raises:
            UnavailableError: Whether the last transaction was committed is unknown.
        """
        while True:
            part = await parts.next(self._patience())
            if part is None or not part.events:
                if part is not None:
                    self._carry(part)
                if self._carried is None or self._patience():
                    continue
                part = Part([], self._carried, 0)
            await finished(self._commit(part), self._finish_within)

    async def _commit(self, part: Part) -> None:
        cursor = Cursor(part.checkpoint, self._partitions)
        await self._producer.commit([*part.batches, self._record_of(cursor)])
        self._carried = None
        self._on_commit(part)

    def _record_of(self, cursor: Cursor) -> RecordBatch:
        builder = new_builder(_CURSOR_BYTES)
        builder.append(timestamp=None, key=b"cursor", value=cursor.encode(), headers=[])
        return RecordBatch(self._cursor_topic, 0, builder)

    def _carry(self, part: Part) -> None:
        if self._carried is None:
            self._carry_until = asyncio.get_running_loop().time() + CARRY_SECONDS
        self._carried = part.checkpoint
        self._on_passed(part)

    def _patience(self) -> float | None:
        """Return how many seconds the carried cursor can still wait; None when there is none."""
        if self._carried is None:
            return None
        return max(0.0, self._carry_until - asyncio.get_running_loop().time())
