"""Discarding: a stream goes on without an event that can never be sent, and that is on record everywhere."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import EventStore, by_function
from eventstore.errors import (
    InvalidArgumentError,
    NotParkedByPublisherError,
    ParkedElsewhereByPublisherError,
    UnavailableError,
)
from eventstore.kafka.cursor import read_cursor
from eventstore.kafka.producer import TransactionalProducer
from eventstore.kafka.repairing import Unparked, discard
from eventstore.outbox import DISCARDED
from eventstore.projections import ParkedStreams
from eventstore.streams import ANY
from fixtures.kafka_sales import app, counted, project_all
from fixtures.kafka_tools import Kafka, publish_all
from fixtures.shop import SHIPPED, placed
from fixtures.stores import open_store

LARGE = placed(sku="secret" * 1000)
PARKING: dict[str, Any] = {"on_failure": "park", "max_parked": 1}


@pytest.fixture
async def narrow(kafka: Kafka) -> Kafka:
    """A broker whose topic of orders accepts little."""
    await kafka.create_topic(kafka.orders, retention_ms="-1", max_message_bytes="2000")
    return kafka


async def append(store: EventStore, stream_id: str, *events: Any) -> None:
    for event in events:
        await store.append(stream_id, [event], expected_version=ANY)


async def discarded(kafka: Kafka, store: EventStore, stream_id: str = "order-1") -> Unparked:
    declared = kafka.declaration(**PARKING)
    return await discard(store, declared, kafka.settings, stream_id, by="ann", reason="a typo")


async def test_the_rest_of_the_stream_is_sent_behind_a_record_in_the_place_of_the_event(
    narrow: Kafka, store: EventStore
) -> None:
    await append(store, "order-1", placed(), LARGE, placed(), placed())
    await publish_all(narrow, store, **PARKING)
    assert await discarded(narrow, store) == Unparked(2, None)
    found = await narrow.events(narrow.orders)
    assert [event.stream_version for event in found] == [1, 2, 3, 4]
    instead = found[1]
    assert (instead.event_type, instead.data, instead.metadata) == (DISCARDED, "", None)
    assert await store.log.event_at(instead.position) == instead.event_id
    await append(store, "order-1", placed())
    await publish_all(narrow, store, **PARKING)
    assert len(await narrow.events(narrow.orders)) == 5


async def test_the_slot_of_the_stream_is_free_again(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", LARGE)
    await publish_all(narrow, store, **PARKING)
    assert await discarded(narrow, store) == Unparked(0, None)
    await append(store, "order-2", LARGE)
    await publish_all(narrow, store, **PARKING)
    cursor = await read_cursor(narrow.settings, "test", narrow.declaration().cursor_topic)
    assert list(cursor.parked) == ["order-2"]


async def test_only_the_first_event_is_given_up_and_the_next_that_cannot_be_sent_parks_the_stream_again(
    narrow: Kafka, store: EventStore
) -> None:
    await append(store, "order-1", LARGE, placed(), LARGE, placed())
    await publish_all(narrow, store, **PARKING)
    done = await discarded(narrow, store)
    assert done.sent == 1
    assert done.parked is not None
    assert done.parked.stream_version == 3
    assert [event.stream_version for event in await narrow.events(narrow.orders)] == [1, 2]


async def test_a_read_model_counts_the_version_and_applies_nothing(narrow: Kafka, dsn: str) -> None:
    async with open_store(dsn, app) as store:
        await append(store, "order-1", placed(), LARGE, placed())
        await publish_all(narrow, store, **PARKING)
        await discarded(narrow, store)
        await project_all(narrow, store)
        assert await counted(store) == {"order-1": (2, 3)}


async def test_who_did_so_and_why_is_kept(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", placed(), LARGE)
    await publish_all(narrow, store, **PARKING)
    await discarded(narrow, store)
    (note,) = await ParkedStreams(store.database, None).discarded()
    assert (note.consumer, note.stream_id, note.stream_version) == ("publisher:orders", "order-1", 2)
    assert (note.event_type, note.discarded_by, note.reason) == ("OrderPlaced", "ann", "a typo")
    assert "accepts 2000" in note.error
    assert "secret" not in note.error


async def test_one_that_is_cut_off_is_done_when_it_is_run_again(
    narrow: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(store, "order-1", LARGE, placed())
    await publish_all(narrow, store, **PARKING)

    async def fails(*_: Any) -> None:
        raise UnavailableError("cut off")

    with monkeypatch.context() as patched, pytest.raises(UnavailableError, match="cut off"):
        patched.setattr(TransactionalProducer, "commit", fails)
        await discarded(narrow, store)
    assert await narrow.events(narrow.orders) == []
    await discarded(narrow, store)
    assert [event.stream_version for event in await narrow.events(narrow.orders)] == [1, 2]


async def test_an_event_that_has_no_topic_leaves_no_record(kafka: Kafka, store: EventStore) -> None:
    topic = by_function(lambda route: "order" if route.event_type == "OrderPlaced" else "no topic!")
    declared: dict[str, Any] = {"topic": topic, **PARKING}
    await append(store, "order-1", placed(), SHIPPED, placed())
    await publish_all(kafka, store, **declared)
    publisher = kafka.declaration(**declared)
    await discard(store, publisher, kafka.settings, "order-1", by="ann", reason="never meant to go out")
    assert [event.stream_version for event in await kafka.events(kafka.orders)] == [1, 3]


async def test_only_the_event_that_was_shown_is_discarded(narrow: Kafka, store: EventStore) -> None:
    """Two people at once, or one whose answer was lost: the second one does not drop what nobody has looked at."""
    await append(store, "order-1", LARGE, LARGE, placed())
    await publish_all(narrow, store, **PARKING)
    declared = narrow.declaration(**PARKING)
    decided: dict[str, Any] = {"by": "ann", "reason": "a typo", "version": 1}
    done = await discard(store, declared, narrow.settings, "order-1", **decided)
    assert done.parked is not None
    assert done.parked.stream_version == 2
    with pytest.raises(ParkedElsewhereByPublisherError, match="from version 2 on, not from 1"):
        await discard(store, declared, narrow.settings, "order-1", **decided)
    assert len(await ParkedStreams(store.database, None).discarded()) == 1
    assert [event.stream_version for event in await narrow.events(narrow.orders)] == [1]


async def test_nobody_discards_without_a_name_a_reason_and_a_parked_stream(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", LARGE)
    await publish_all(narrow, store, **PARKING)
    declared = narrow.declaration(**PARKING)
    for by, reason in (("", "a typo"), ("ann", " ")):
        with pytest.raises(InvalidArgumentError):
            await discard(store, declared, narrow.settings, "order-1", by=by, reason=reason)
    with pytest.raises(NotParkedByPublisherError):
        await discarded(narrow, store, "order-7")
