"""Stretches of the log: exactly what lies between two events, as long as both are there."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

import pytest

from eventstore import EventStore
from eventstore.errors import LogMismatchError
from eventstore.kafka.stretches import read_between
from eventstore.store.log import LogRange
from eventstore.subscriptions import Batch, Checkpoint
from fixtures.kafka_tools import fill, lose_last_event


async def place(store: EventStore, position: int) -> Checkpoint:
    return Checkpoint(position, await store.log.event_at(position))


async def between(store: EventStore, after: Checkpoint, up_to: Checkpoint, *, batch: int = 4) -> list[Batch]:
    found = read_between(store.log, after, up_to, wanted=LogRange(), batch=batch, name="test")
    return [one async for one in found]


async def test_it_ends_at_the_second_event_wherever_batches_end(store: EventStore) -> None:
    await fill(store, streams=2, events=6)
    last = await place(store, 9)
    for batch in range(1, 12):
        found = await between(store, await place(store, 2), last, batch=batch)
        assert [event.position for one in found for event in one.events] == list(range(3, 10))
        assert found[-1].checkpoint == last


async def test_there_is_nothing_between_an_event_and_itself(store: EventStore) -> None:
    await fill(store, streams=1, events=2)
    assert await between(store, await place(store, 2), await place(store, 2)) == []


@pytest.mark.parametrize("batch", [1, 3, 10])
async def test_another_event_in_the_place_of_the_second_is_noticed(store: EventStore, batch: int) -> None:
    await fill(store, streams=1, events=5)
    with pytest.raises(LogMismatchError, match="has not that event"):
        await between(store, Checkpoint(), Checkpoint(3, uuid4()), batch=batch)


async def test_another_event_in_the_place_of_the_first_is_noticed(store: EventStore) -> None:
    await fill(store, streams=1, events=5)
    first = replace(await place(store, 2), event_id=uuid4())
    with pytest.raises(LogMismatchError, match="has not that event"):
        await between(store, first, await place(store, 4))


async def test_a_log_that_ends_before_is_noticed(store: EventStore) -> None:
    await fill(store, streams=1, events=3)
    last = await place(store, 3)
    await lose_last_event(store)
    with pytest.raises(LogMismatchError, match="the log ends at position 2"):
        await between(store, Checkpoint(), last)
