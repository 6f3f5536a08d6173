"""Running a command against a stream: load, look whether it ran before, decide, append; again after a conflict.

It looks after it has loaded: whatever it decides on is then without the command's own events, or the append conflicts.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore.clock import command_event_id
from eventstore.errors import ConcurrencyError, IdempotencyError, InvalidArgumentError, TransactionConflictError
from eventstore.events import BEGINNING, AppendResult, RawEvent
from eventstore.lifecycle import Backoff
from eventstore.metadata import MAX_ID_LENGTH, Metadata
from eventstore.streams import checked_text

if TYPE_CHECKING:
    from eventstore.events import NewEvent, Position
    from eventstore.store import Operations

ATTEMPTS: Final = 20
"""How often a command is decided again before its conflict is the caller's; each conflict means somebody else won."""

Attempt = Callable[[], Awaitable[AppendResult]]
"""Loads, looks for an earlier result, decides and appends, once."""


async def run_command(attempt: Attempt, command_id: str | None, *, inside: bool) -> AppendResult:
    """Run a command until it has been decided on the stream's latest state; a repeated one returns its first result.

    Args:
        attempt: Runs it once.
        command_id: Names it, if it may be a repetition.
        inside: Whether it runs inside a transaction, which PostgreSQL can end: then only its owner can run it again.

    Raises:
        ConcurrencyError: It lost against other writers `ATTEMPTS` times.
    """
    # A named command's ids can be known with other content only if it has just run on a later state: find its result.
    again: tuple[type[Exception], ...] = (
        (ConcurrencyError,) if command_id is None else (ConcurrencyError, IdempotencyError)
    )
    backoff = Backoff(first=0.001, most=0.1)
    for left in range(ATTEMPTS, 0, -1):
        try:
            return await attempt()
        except again as error:
            if left == 1 or (inside and isinstance(error, TransactionConflictError)):
                raise
            await (asyncio.sleep(0) if left == ATTEMPTS else backoff.wait())
    raise AssertionError("unreachable")


async def earlier_result(
    operations: Operations, stream_id: str, version: int, command_id: str | None
) -> AppendResult | None:
    """Return what the command's first run appended, if it ran: its events lie together, in the order of their ids.

    Asked once the stream is loaded: at version 0 nothing has run, and what runs from then on conflicts.
    """
    if command_id is None or version == 0:
        return None
    first = await operations.log.events_by_ids(stream_id, [command_event_id(command_id, stream_id, 0)])
    if not first:
        return None
    ids: list[UUID] = []
    last_version, position = first[0].stream_version, BEGINNING
    async for event in operations.read_stream(stream_id, of=RawEvent, from_version=first[0].stream_version):
        if event.event_id != command_event_id(command_id, stream_id, len(ids)):
            break
        ids.append(event.event_id)
        last_version, position = event.stream_version, event.position
    return AppendResult(stream_id, first[0].stream_version, last_version, position, tuple(ids), repeated=True)


def checked_command_id(command_id: str | UUID | None) -> str | None:
    """Return a command id as text.

    Raises:
        InvalidArgumentError: It is empty or too long, or holds what no stored text can hold.
    """
    if command_id is None:
        return None
    text = checked_text("command_id", str(command_id))
    if not 0 < len(text) <= MAX_ID_LENGTH:
        raise InvalidArgumentError(f"command_id has 1 to {MAX_ID_LENGTH} characters, not {len(text)}")
    return text


async def append_decided(
    operations: Operations,
    stream_id: str,
    version: int,
    position: Position,
    decided: Sequence[NewEvent],
    *,
    command_id: str | None = None,
    metadata: Metadata | None = None,
) -> AppendResult:
    """Append what was decided at a version; deciding nothing succeeds, writes nothing, and leaves the version."""
    if not decided:
        return AppendResult(stream_id, version + 1, version, position, ())
    events = list(decided)
    if command_id is not None:
        events = [
            replace(event, event_id=command_event_id(command_id, stream_id, number))
            for number, event in enumerate(decided)
        ]
        metadata = (
            Metadata(command_id=command_id) if metadata is None else metadata.over(Metadata(command_id=command_id))
        )
    return await operations.append(stream_id, events, expected_version=version, metadata=metadata)
