"""The mirror of a publisher's cursor stands where the cursor does once the publisher has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import NO_STREAM, EventStore
from eventstore.kafka.cursor import Cursor
from eventstore.kafka.mirror import Mirror
from eventstore.subscriptions import Checkpoint, Checkpoints, Leases
from fixtures.kafka_tools import WITHIN, Kafka, stop
from fixtures.shop import placed


async def test_a_publisher_that_ends_while_its_mirror_moves_leaves_it_where_the_cursor_stands(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The move has happened, and its answer is on the way: cut off there, nobody knew from where to go on."""
    await store.append("order-1", [placed(), placed(), placed()], expected_version=NO_STREAM)
    (group,) = kafka.declaration().all_groups()
    moved, answered, advance = asyncio.Event(), asyncio.Event(), Checkpoints.advance

    async def slow(self: Checkpoints, *args: Any, **named: Any) -> None:
        await advance(self, *args, **named)
        moved.set()
        await answered.wait()

    async with asyncio.timeout(WITHIN), Leases(store.database).holding(group.checkpoint_name) as lease:
        first, second, last = [
            Cursor(Checkpoint(int(str(event.position)), event.event_id, lease.epoch))
            async for event in store.read_stream("order-1")
        ]
        mirror = await Mirror.found(store.database, group)
        mirror.note(first)
        await mirror.write()
        monkeypatch.setattr(Checkpoints, "advance", slow)
        keeping = asyncio.create_task(mirror.keep())
        mirror.note(second)
        await moved.wait()
        mirror.note(last)
        ending = asyncio.create_task(stop(keeping))
        await asyncio.sleep(0)  # it is told to end, and only then hears the answer
        answered.set()
        await ending
        await mirror.settle()
    assert await Checkpoints(store.database).load(group.checkpoint_name) == last.checkpoint
