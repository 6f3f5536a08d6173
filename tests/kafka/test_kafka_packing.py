"""Packing: every event goes where its own route says, and what is before one that cannot be sent is sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from eventstore import Publisher, by_function, by_type
from eventstore.codec import StoredEvent
from eventstore.errors import CursorTooLargeError, EventStoreError, LogMismatchError, MissingTopicError
from eventstore.kafka.cursor import MAX_BYTES, Cursor, Parked
from eventstore.kafka.packing import TURN, Packer, Part
from eventstore.kafka.topics import MAX_MESSAGE_BYTES, Topic
from eventstore.outbox import Group
from eventstore.subscriptions import Checkpoint

NOW = datetime(2026, 1, 1, tzinfo=UTC)


class SomeTopics:
    """All topics are there, but for some."""

    def __init__(self, *missing: str) -> None:
        self._missing = missing

    async def find(self, name: str) -> Topic | None:
        settings = {"max.message.bytes": str(MAX_MESSAGE_BYTES)}
        return None if name in self._missing else Topic(name, 3, settings)

    async def for_events(self, name: str, _: Publisher) -> Topic:
        topic = await self.find(name)
        if topic is None:
            raise MissingTopicError(name)
        return topic


def packer(publisher: Publisher, topics: SomeTopics | None = None, cursor: Cursor | None = None) -> Packer:
    any_topics: Any = topics or SomeTopics()
    return Packer(Group(publisher), any_topics, cursor or Cursor())


def event(position: int, stream_id: str, event_type: str = "OrderPlaced") -> StoredEvent:
    return StoredEvent(position, stream_id, 1, uuid4(), event_type, 1, "{}", None, None, None, NOW, NOW)


async def packed(one: Packer, events: Sequence[StoredEvent]) -> tuple[list[Part], EventStoreError | None]:
    """Return the parts that come of events, and what ended it."""
    parts: list[Part] = []
    try:
        async for part in one.split(events, Checkpoint(events[-1].position, events[-1].event_id)):
            parts.append(part)  # noqa: PERF401 - what was yielded before an error counts too
    except EventStoreError as error:
        return parts, error
    return parts, None


@pytest.mark.parametrize("topic", [by_type(), by_function(lambda route: route.event_type)])
async def test_a_route_by_type_is_never_taken_for_that_of_another_type_and_stream(topic: Any) -> None:
    """Written one after the other, both are `InvoiceLineitem-1`."""
    events = [event(1, "Lineitem-1", "Invoice"), event(2, "item-1", "InvoiceLine")]
    parts, _ = await packed(packer(Publisher("orders", topic=topic)), events)
    assert [batch.topic for part in parts for batch in part.batches] == ["Invoice", "InvoiceLine"]


@pytest.mark.parametrize("is_known", [False, True])
async def test_what_is_before_an_event_whose_topic_is_missing_is_sent(is_known: bool) -> None:
    publisher = Publisher("orders", create_topics=False, on_failure="park")
    cursor = Cursor(partitions={"late": 3} if is_known else {})
    events = [*(event(number, f"order-{number}") for number in range(1, 500)), event(500, "late-1")]
    parts, error = await packed(packer(publisher, SomeTopics("late"), cursor), events)
    assert [part.events for part in parts] == [499]
    assert parts[-1].cursor.checkpoint == Checkpoint(499, events[498].event_id)
    assert isinstance(error, LogMismatchError if is_known else MissingTopicError)


# --- what the cursor has room for ------------------------------------------------------------------------------------


def full_cursor() -> Cursor:
    """Return a cursor that has room for 100 bytes more."""
    empty = Cursor(parked={"s": Parked(1, 1, "", "")})
    room = MAX_BYTES - len(empty.encode()) - 100
    return Cursor(parked={"s": Parked(1, 1, "x" * room, "")})


async def test_a_stream_that_the_cursor_has_no_room_for_halts_the_publisher_and_what_is_before_is_sent() -> None:
    publisher = Publisher("orders", on_failure="park")
    cursor = full_cursor()
    events = [event(2, "o-1"), event(3, "bücher-1")]
    parts, error = await packed(packer(publisher, cursor=cursor), events)
    assert isinstance(error, CursorTooLargeError)
    assert not error.retryable
    assert [part.events for part in parts] == [1]
    assert parts[0].cursor.parked == cursor.parked
    assert len(parts[0].cursor.encode()) < MAX_BYTES


async def test_a_topic_that_the_cursor_has_no_room_for_halts_the_publisher_and_what_is_before_is_sent() -> None:
    publisher = Publisher("orders", on_failure="park")
    events = [event(2, "o-1"), event(3, f"{'t' * 100}-1")]
    parts, error = await packed(packer(publisher, cursor=full_cursor()), events)
    assert isinstance(error, CursorTooLargeError)
    assert [part.events for part in parts] == [1]
    assert set(parts[0].cursor.partitions) == {"o"}


async def test_a_reason_is_as_short_in_bytes_as_in_letters() -> None:
    publisher = Publisher("orders", on_failure="park")
    parts, _ = await packed(packer(publisher), [event(1, f"{'ü' * 120}-1")])
    (held,) = parts[-1].cursor.parked.values()
    assert 290 < len(held.reason.encode()) <= 300


async def test_packing_gives_way_to_the_transaction_under_way() -> None:
    """A transaction is several questions to the broker: while a part is packed, their answers must be read."""
    turns = 0

    async def transaction() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    under_way = asyncio.create_task(transaction())
    parts, _ = await packed(packer(Publisher("orders")), [event(number, "order-1") for number in range(1, 10 * TURN)])
    under_way.cancel()

    assert sum(part.events for part in parts) == 10 * TURN - 1
    assert turns >= 8  # the first of nine began it
