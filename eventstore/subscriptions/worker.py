"""The worker of a declared subscription: handlers at least once for each event, the checkpoint after each."""

from __future__ import annotations

import asyncio
import logging
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from eventstore.errors import (
    LeaseLostError,
    NotCaughtUpError,
    OutcomeUnknownError,
    SubscriptionFailedError,
    TransactionConflictError,
    UnavailableError,
)
from eventstore.lifecycle import Backoff, is_cancelled, running
from eventstore.metadata import caused_by
from eventstore.subscriptions.declared import SubscriptionContext
from eventstore.subscriptions.reader import SubscriptionReader

if TYPE_CHECKING:
    from eventstore.events import RecordedEvent
    from eventstore.store import EventStore
    from eventstore.subscriptions.declared import Subscription
    from eventstore.subscriptions.progress import Progress
    from eventstore.subscriptions.reader import EventBatch

log = logging.getLogger(__name__)

_PASSING: Final = (UnavailableError, OutcomeUnknownError, TransactionConflictError)
"""What passes without anybody mending the handler: the database is away, or preferred somebody else."""

_position: Final = attrgetter("position")


class SubscriptionWorker:
    """Calls the handlers of a subscription.

    Args:
        store: The store, on PostgreSQL or in memory.
        subscription: What to do with each event.

    Attributes:
        progress: How far it has come.
    """

    def __init__(self, store: EventStore, subscription: Subscription, *, reports: bool = False) -> None:
        self._store = store
        self._subscription = subscription
        self._reader: SubscriptionReader[Any] = SubscriptionReader(
            store.log,
            subscription.name,
            subscription.interest(store.codec),
            start=subscription.start,
            batch=subscription.batch,
            reports=reports,
        )

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        return self._reader.progress

    async def run(self) -> None:
        """Follow the log until cancelled.

        Raises:
            SubscriptionFailedError: A handler failed again and again; the checkpoint stays before that event.
            LogMismatchError: The log is not the one that was read.
            CodecError: An event cannot be read.
        """
        with self.progress.running():
            async with self._reader as reader:
                async for batch in reader:
                    try:
                        await self._handle_all(batch)
                    except LeaseLostError as error:
                        await reader.start_over(error)

    async def run_until_caught_up(self) -> None:
        """Handle what is settled in the log now, then stop.

        Raises:
            SubscriptionFailedError: A handler failed again and again.
        """
        async with running(self.run()):
            await self.progress.caught_up(self._store.log)

    async def _handle_all(self, batch: EventBatch[Any]) -> None:
        event: RecordedEvent[Any] | None = None
        for _, group in groupby(batch, key=_position):  # an upcaster may have made several of one
            for event in group:
                await self._reader.while_held(asyncio.create_task(self._handle(event)))
            assert event is not None  # noqa: S101 - a group has members
            await batch.commit_up_to(event)
        await batch.commit()

    async def _handle(self, event: RecordedEvent[Any]) -> None:
        """Call the handler until it succeeds, or has failed too often."""
        handler = self._subscription.handler(type(event.data))
        backoff, failed = Backoff(), 0
        while True:
            try:
                with caused_by(str(event.event_id), event.metadata):
                    await handler(event, SubscriptionContext(self._store, failed + 1))
            except (Exception, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                # A wrong version does not: the handler is to load again, and has the same one each time if it does not.
                failed += isinstance(error, NotCaughtUpError) or not isinstance(error, _PASSING)
                if failed >= self._subscription.attempts:
                    raise SubscriptionFailedError(
                        self._subscription.name,
                        event.event_type,
                        event.stream_id,
                        event.stream_version,
                        attempts=failed,
                        reason=type(error).__qualname__,
                    ) from error
                log.warning("subscription %s tries again: %s", self._subscription.name, type(error).__qualname__)
            else:
                return
            before = self.progress.state
            self.progress.enter("backing off")
            await backoff.wait()
            self.progress.enter(before)
