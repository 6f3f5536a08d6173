"""Running a command against a stream: look whether it ran before, load, decide, append; again after a conflict."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eventstore.clock import command_event_id
from eventstore.errors import ConcurrencyError, InvalidArgumentError
from eventstore.events import BEGINNING, AppendResult, RawEvent
from eventstore.lifecycle import Backoff
from eventstore.metadata import MAX_ID_LENGTH, Metadata

if TYPE_CHECKING:
    from eventstore.events import NewEvent, Position
    from eventstore.store import Operations

ATTEMPTS: Final = 20
"""How often a command is decided again before its conflict is the caller's; each conflict means somebody else won."""

Attempt = Callable[[], Awaitable[AppendResult]]
"""Loads, decides and appends, once."""


async def run_command(operations: Operations, stream_id: str, attempt: Attempt, command_id: str | None) -> AppendResult:
    """Run a command until it has been decided on the stream's latest state; a repeated one returns its first result.

    Raises:
        ConcurrencyError: It lost against other writers `ATTEMPTS` times.
    """
    backoff = Backoff(first=0.001, most=0.1)
    for left in range(ATTEMPTS, 0, -1):
        if command_id is not None:
            done = await _earlier_result(operations, stream_id, command_id)
            if done is not None:
                return done
        try:
            return await attempt()
        except ConcurrencyError:
            if left == 1:
                raise
            await (asyncio.sleep(0) if left == ATTEMPTS else backoff.wait())
    raise AssertionError("unreachable")


async def _earlier_result(operations: Operations, stream_id: str, command_id: str) -> AppendResult | None:
    """Return what the command's first run appended, if it ran: its events lie together, in the order of their ids."""
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
        InvalidArgumentError: It is empty or too long.
    """
    if command_id is None:
        return None
    text = str(command_id)
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
