r"""Group commit: appends that wait in one process at the same time go out in one call and one commit.

What one append costs is mostly its round trip and its commit, which many can share. Appends go from the queue to one of
two lanes; while the server works on a batch of one lane, the client prepares the next one for the other. Nothing waits
when a lane is free. Each append keeps its own answer, and nobody's trouble is a neighbour's:

    lane --> appended | wrong version                       answered
         \-> busy: another transaction holds the stream --> beside the lanes, on a connection that can wait for it
         \-> ids known, or the call failed as a whole   --> one by one (see `beside`), each with an answer of its own
         \-> the connection broke                       --> one by one, resolved (see `appending`)

A caller that is cancelled before its append was sent has not appended; afterwards the append runs on without it, and no
cancel request ever reaches the connection that others share. Lanes run outside any caller's context.
"""

from __future__ import annotations

import asyncio
from contextvars import Context
from typing import TYPE_CHECKING, Final

from eventstore.db import ConnectionLostError
from eventstore.errors import (
    ClosedError,
    EventStoreError,
    NotConnectedError,
    UnavailableError,
    WrongEventLoopError,
    WrongExpectedVersionError,
)
from eventstore.lifecycle import Budget
from eventstore.store.appending import appended, give_up_at, no_answer
from eventstore.store.beside import BUSY_SECONDS, BesideAppender
from eventstore.store.queueing import AppendQueue, Pending

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence
    from typing import Any

    from eventstore.codec import Codec
    from eventstore.events import AppendResult
    from eventstore.store.log import AppendOutcome, AppendRequest, Log, PooledLog

LANES: Final = 2
"""Batches on their way at a time. With one, client and server only take turns; a pool of two has no room for more."""

WAITING_BYTES: Final = 64 * 1024 * 1024
"""What may wait in memory before callers wait to get in."""


class GroupingAppender:
    """Appends requests in batches, each with an answer of its own.

    Args:
        log: Where to; each call is a transaction.
        codec: For comparing an append with what is there.
        connections: How many connections the log has.
    """

    def __init__(self, log: PooledLog, codec: Codec, *, connections: int) -> None:
        self._log = log
        self._beside = BesideAppender(log, codec, connections=connections)
        self._loop = asyncio.get_running_loop()
        self._queue = AppendQueue()
        self._room = Budget(WAITING_BYTES)
        self._unanswered: set[Pending] = set()
        self._most_lanes = max(1, min(LANES, connections - 1))  # readers need one while appends keep coming
        self._lanes = 0
        self._resting = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def append(self, request: AppendRequest, timeout: float | None) -> AppendResult:  # noqa: ASYNC109 - see `Appender`
        """Append with whoever else is appending just now.

        Raises:
            WrongExpectedVersionError: The stream is elsewhere.
            IdempotencyError: The ids were used for something else.
            OutcomeUnknownError: It was sent, and no answer came in time.
            UnavailableError: It was not sent in time, or the database cannot be reached: nothing was appended.
        """
        if asyncio.get_running_loop() is not self._loop:
            raise WrongEventLoopError
        pending = Pending(request, self._loop.create_future())
        if timeout is None:
            return await self._answer(pending)
        try:
            async with asyncio.timeout(timeout):
                return await self._answer(pending)
        except TimeoutError:
            if pending.is_sent:
                raise no_answer(request, f"no answer within {timeout} s") from None
            raise UnavailableError(
                f"the append to {request.stream_id!r} was not sent within {timeout} s, as others are before it; "
                "nothing was appended: try again later, or append less at a time"
            ) from None

    async def _answer(self, pending: Pending) -> AppendResult:
        if not self._room.take_now(pending.weight):
            await self._room.take(pending.weight)
        try:
            self._unanswered.add(pending)
            self._queue.put(pending)
            self._start_lane()
            return await pending.answer
        finally:
            self._unanswered.discard(pending)
            if not pending.is_sent:
                self._queue.leave(pending)
            self._room.give(pending.weight)

    async def drain(self, seconds: float) -> None:
        """Wait until everything that was accepted has been answered.

        Args:
            seconds: How long. Then, or when the wait is cancelled, those who still wait hear `OutcomeUnknownError`, or
                `ClosedError` if theirs was never sent.
        """
        try:
            async with asyncio.timeout(seconds):
                while self._tasks:
                    await asyncio.wait(self._tasks)
        except TimeoutError:
            pass
        finally:
            for task in self._tasks:
                task.cancel()
            for pending in list(self._unanswered):
                unknown = no_answer(pending.request, "the store was closed before the answer came")
                _refuse(pending, unknown if pending.is_sent else ClosedError("store"))

    # --- the lanes -----------------------------------------------------------------------------------------------

    def _start_lane(self) -> None:
        if self._lanes < self._most_lanes and self._queue.ready and not self._resting:
            self._lanes += 1
            self._spawn(self._lane())

    async def _lane(self) -> None:
        """Send batch after batch, until nothing is waiting, on one connection for as long as it holds."""
        batch = self._take()
        try:
            while batch:
                try:
                    async with self._log.pinned() as log:
                        while batch and await self._send(log, batch, wait=False):
                            batch = await self._next_batch()
                except Exception as error:  # noqa: BLE001 - no connection to be had, so nothing was sent, whatever it is
                    self._give_back(batch, error)
                batch = self._take()  # what came while the connection was given back, and saw both lanes at work
        finally:
            self._lanes -= 1

    def _take(self) -> list[Pending]:
        """Take a batch: this lane's part of all streams, or one lane would carry all and the other crumbs."""
        batch = self._queue.take(-(-(self._queue.ready + self._queue.closed) // self._most_lanes))
        self._start_lane()
        return batch

    async def _next_batch(self) -> list[Pending]:
        """Take the next batch once those who were just answered have run: else who waits next always comes too late."""
        self._resting += 1
        try:
            await asyncio.sleep(0)
        finally:
            self._resting -= 1
        return self._take()

    def _give_back(self, batch: Sequence[Pending], error: Exception) -> None:
        """Tell callers why their appends could not be sent."""
        for pending in batch:
            _refuse(pending, NotConnectedError(str(error)) if isinstance(error, NotConnectedError) else error)
        self._open(_by_stream(batch))

    async def _send(self, log: Log, batch: Sequence[Pending], *, wait: bool) -> bool:
        """Send a batch and see to its answers; returns whether the connection can be used further."""
        batch = self._without_the_gone(batch)
        if not batch:
            return True
        for pending in batch:
            pending.is_sent = True
        try:
            outcomes = await log.append([pending.request for pending in batch], wait=wait)
        except ConnectionLostError as error:
            self._one_by_one(batch, lost=str(error))
            return False
        except EventStoreError:  # PostgreSQL rolled the call back; whose fault it was shows when each is alone
            self._one_by_one(batch)
        except Exception as error:  # noqa: BLE001 - a defect: whatever it is, each caller hears the truth of its append
            self._one_by_one(batch, lost=f"unexpected {type(error).__qualname__}")
            return False
        else:
            self._settle(batch, outcomes)
        return True

    def _without_the_gone(self, batch: Sequence[Pending]) -> Sequence[Pending]:
        """Leave out those whose callers went while a connection was waited for: they heard that nothing was sent."""
        here = [pending for pending in batch if pending.is_sent or not pending.answer.done()]
        if len(here) < len(batch):
            self._open(set(_by_stream(batch)).difference(_by_stream(here)))
        return here

    def _settle(self, batch: Sequence[Pending], outcomes: Iterable[AppendOutcome]) -> None:
        """Answer each append; losers first, so that who tries again comes before who goes on (else nobody else would).

        The order of answers is the order in which callers wake up, and so that of their next appends.
        """
        answered = list(zip(batch, outcomes, strict=True))
        busy: list[Pending] = []
        known: list[Pending] = []
        for pending, outcome in answered:
            if outcome.kind == "wrong_version":
                request = pending.request
                _refuse(pending, WrongExpectedVersionError(request.stream_id, request.expected, outcome.version))
            elif outcome.kind == "busy":
                busy.append(pending)
            elif outcome.kind == "ids_known":
                known.append(pending)
        for pending, outcome in answered:
            if outcome.kind == "appended" and not pending.answer.done():
                pending.answer.set_result(appended(pending.request, outcome))
        self._open({pending.request.stream_id for pending in batch}.difference(_by_stream(busy), _by_stream(known)))
        self._one_by_one(known)
        self._step_aside(busy)

    def _open(self, streams: Iterable[str]) -> None:
        for stream_id in streams:
            self._queue.open(stream_id)
        self._start_lane()

    # --- beside the lanes ----------------------------------------------------------------------------------------

    def _step_aside(self, busy: Sequence[Pending]) -> None:
        """Wait for streams that other transactions hold, each on a connection of its own, while there are any."""
        for stream_id, waiting in _by_stream(busy).items():
            pending = [each for each in waiting if not each.answer.done()]  # `busy` proves: who has gone is not there
            if not pending:
                self._open([stream_id])
            elif self._beside.begin_waiting():
                self._spawn(self._wait_for(pending))
            else:
                self._spawn(self._try_again(stream_id, pending))

    async def _wait_for(self, pending: Sequence[Pending]) -> None:
        try:
            async with self._log.pinned() as log:
                await self._send(log, pending, wait=True)
        except Exception as error:  # noqa: BLE001 - as in `_lane`: who waits must hear of it
            self._give_back(pending, error)
        finally:
            self._beside.end_waiting()

    async def _try_again(self, stream_id: str, pending: Sequence[Pending]) -> None:
        for each in pending:
            each.is_sent = False
        await asyncio.sleep(BUSY_SECONDS)
        self._queue.put_back(stream_id, pending)
        self._open([stream_id])

    def _one_by_one(self, batch: Sequence[Pending], *, lost: str | None = None) -> None:
        """Carry out appends that cannot share a call; `lost` says why it is unknown whether they happened."""
        until = give_up_at()
        for stream_id, pending in _by_stream(batch).items():
            self._spawn(self._carry_out(stream_id, pending, lost, until))

    async def _carry_out(self, stream_id: str, pending: Sequence[Pending], lost: str | None, until: float) -> None:
        for each in pending:
            try:
                result = await (
                    self._beside.append(each.request)
                    if lost is None
                    else self._beside.resolve(each.request, lost, until)
                )
            except Exception as error:  # noqa: BLE001 - it is the caller's
                _refuse(each, error)
            else:
                if not each.answer.done():
                    each.answer.set_result(result)
        self._open([stream_id])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run work in an empty context: it is for many callers, and none's metadata or tracing applies to it."""
        task = self._loop.create_task(work, context=Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _refuse(pending: Pending, error: Exception) -> None:
    if not pending.answer.done():
        pending.answer.set_exception(error)


def _by_stream(batch: Sequence[Pending]) -> dict[str, list[Pending]]:
    streams: dict[str, list[Pending]] = {}
    for pending in batch:
        streams.setdefault(pending.request.stream_id, []).append(pending)
    return streams
