"""Applying stretches by a projection's failure policy: dividing, trying again, and in the end parking or stopping.

    a stretch --applied--> done
        '-- fails --> divided: at the event that is to blame if that is known, else in halves
    one event, alone: its attempts are noted beforehand --applied--> done
        '-- failed as often as the policy allows --> Park: its stream is held back | Stop: the error is raised

Failures that pass by themselves (a broken connection, a deadlock, a lost lease) count for nothing: the worker backs off
and starts over. But a connection that breaks again and again while the same events are handled is their doing: they are
then gone through carefully, and the one at which it breaks alone `BREAKS` times, or as often as the policy allows, is
given up.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from eventstore.errors import (
    CodecError,
    EventStoreError,
    NewerSchemaVersionError,
    ProjectionFailedError,
)
from eventstore.projections.failing import Park
from eventstore.projections.handling import BrokenWhileHandlingError, StretchFailedError
from eventstore.projections.handling import failure_of as failed_on
from eventstore.projections.parking import failure_of
from eventstore.projections.stretches import Stretch

if TYPE_CHECKING:
    from eventstore.codec import StoredEvent
    from eventstore.projections.applying import ProjectionRunner
    from eventstore.projections.runs import Runs

log = logging.getLogger(__name__)

BREAKS: Final = 5
"""How often the connection may break at one event, tried alone, at least: a database in trouble breaks it, too."""

_FAILURES: Final = (ProjectionFailedError, StretchFailedError, CodecError)

S = TypeVar("S", bound=Stretch)


class Perseverance(Generic[S]):
    """Applies the stretches of one worker.

    Args:
        runner: Applies events.
        runs: Notes attempts, so that they survive the process; without it they are counted as long as it lives.
        on_done: Hears of each part that is done.
        goes_on: Whether what is left of a stretch is still ours to apply; asked between two parts.
    """

    def __init__(
        self,
        runner: ProjectionRunner,
        runs: Runs | None,
        *,
        on_done: Callable[[S], None] = lambda _: None,
        goes_on: Callable[[], bool] = lambda: True,
    ) -> None:
        self._runner = runner
        self._policy = runner.projection.on_failure
        self._runs = runs
        self._on_done = on_done
        self._goes_on = goes_on

    async def apply(self, stretch: S) -> None:
        """Apply a stretch, as long as it is ours; what is done of it stays done.

        Raises:
            ProjectionFailedError: An event cannot be applied, and the policy is to stop.
            TooManyParkedStreamsError: An event cannot be applied, and too many streams are parked already.
            CodecError: An event cannot be read, and the policy is to stop; or newer code has written it.
            LeaseLostError, UnavailableError, TransactionConflictError: Start over.
        """
        if self._runs is not None:
            self._runs.meet(stretch)
        left = [stretch]
        while left and self._goes_on():
            part = left.pop()
            together = self._runs.together(part, of=len(stretch.events)) if self._runs is not None else None
            if together is not None and len(part.events) > together:
                part, rest = part.split(together)
                left.append(rest)
            if together == 1 and part.events:
                await self._apply_alone(part, None)
            else:
                try:
                    await self._apply_once(part, noted=together is not None)
                except _FAILURES as error:
                    _require_mendable(error)
                    if len(part.events) > 1:
                        left += reversed(_divided(part, error))
                        continue
                    await self._apply_alone(part, error)
            if self._runs is not None:
                self._runs.note_passed(part)
            self._on_done(part)

    async def _apply_once(self, part: S, *, noted: bool = False) -> None:
        if noted and self._runs is not None:
            await self._runs.note_part(part)
        try:
            await self._runner.apply(part.events, session_hook=part.note)
        except BrokenWhileHandlingError as error:
            if self._runs is not None:
                self._runs.note_break(part, error)
            raise

    async def _apply_alone(self, part: S, failure: Exception | None) -> None:
        """Apply one event, as often as the policy allows.

        Args:
            part: The stretch of this event.
            failure: What it has failed with just now.
        """
        (event,) = part.events
        share = part.share_of(event)
        breaks = self._runs.breaks_at(share, event) if self._runs else None
        if breaks is not None and breaks.alone >= max(self._policy.attempts, BREAKS):
            broke = failed_on(self._runner.projection, event, breaks.last)
            broke.__cause__ = breaks.last
            await self._give_up(part, event, broke, breaks.alone)
            return
        backoff = self._policy.backoff()
        attempts = (self._runs.attempts_at(share, event) if self._runs else 0) + (failure is not None)
        while attempts < self._policy.attempts:
            if failure is not None:
                log.warning("projection %s: attempt %d failed: %s", self._runner.consumer_name, attempts, failure)
                await backoff.wait()
            attempts += 1
            if self._runs is not None:
                await self._runs.note_attempt(share, event, attempts)
            try:
                await self._apply_once(part)
            except _FAILURES as error:
                _require_mendable(error)
                failure = error
            except EventStoreError:  # passes by itself
                if self._runs is not None:
                    self._runs.take_back_attempt(share)
                raise
            else:
                return
        await self._give_up(part, event, failure, attempts)

    async def _give_up(self, part: S, event: StoredEvent, error: Exception | None, attempts: int) -> None:
        if isinstance(self._policy, Park):
            log.error("projection %s: %s is held back from version %d on", self._runner.consumer_name, *event[1:3])
            failure = failure_of(error, attempts)
            await self._runner.park(event, failure, limit=self._policy.limit, session_hook=part.note)
            return
        if isinstance(error, EventStoreError):
            raise error
        what = f"the process ended while it handled it, {attempts} time(s)" if error is None else str(error)
        raise ProjectionFailedError(
            self._runner.projection.name, event.event_type, event.stream_id, event.stream_version, what
        ) from (error and error.__cause__)


def _divided(part: S, error: Exception) -> list[S]:
    """Divide a stretch that failed: at the event that is to blame, or in halves."""
    events = part.events
    about = (getattr(error, "stream_id", None), getattr(error, "stream_version", None))
    at = next((index for index, event in enumerate(events) if (event.stream_id, event.stream_version) == about), None)
    if at is None:
        return list(part.split(len(events) // 2))
    parts: list[S] = []
    if at > 0:
        before, part = part.split(at)
        parts.append(before)
    if len(part.events) > 1:
        blamed, part = part.split(1)
        parts.append(blamed)
    return [*parts, part]


def _require_mendable(error: Exception) -> None:
    """Let nobody park what newer code has written: it is this code that is behind, as in a rolling deployment.

    Raises:
        NewerSchemaVersionError: It is.
    """
    if isinstance(error, NewerSchemaVersionError):
        raise error
