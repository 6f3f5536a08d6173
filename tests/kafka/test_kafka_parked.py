"""What cannot be sent: its stream is parked and all others go on, or the publisher halts; nothing is ever skipped."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import EventStore, Publisher, by_function
from eventstore.db import Database
from eventstore.errors import (
    ConfigurationError,
    MessageTooLargeError,
    NotParkedByPublisherError,
    TooManyUnpublishedStreamsError,
    UnroutableEventError,
)
from eventstore.kafka import KafkaPublisher
from eventstore.kafka.cursor import Cursor, Parked, read_cursor
from eventstore.kafka.mirror import Mirror
from eventstore.kafka.repairing import unpark
from eventstore.outbox import Route
from eventstore.streams import ANY
from eventstore.subscriptions import Checkpoint, Checkpoints
from fixtures.kafka_tools import WITHIN, Kafka, eventually, publish_all, working
from fixtures.shop import SHIPPED, placed

LIMIT = "2000"
LARGE = placed(sku="t" * 5000)


@pytest.fixture
async def narrow(kafka: Kafka) -> Kafka:
    """A broker whose topic of orders accepts little."""
    await kafka.create_topic(kafka.orders, retention_ms="-1", max_message_bytes=LIMIT)
    return kafka


async def widen(kafka: Kafka) -> None:
    await kafka.set_topic(kafka.orders, retention_ms="-1", max_message_bytes="100000")


async def append(store: EventStore, stream_id: str, *events: Any) -> None:
    for event in events:
        await store.append(stream_id, [event], expected_version=ANY)


async def versions(kafka: Kafka) -> dict[str, list[int]]:
    """Return which versions of each stream a reader of committed records finds, in its order."""
    found: dict[str, list[int]] = {}
    for event in await kafka.events(kafka.orders):
        found.setdefault(event.stream_id, []).append(event.stream_version)
    return found


async def parked(kafka: Kafka) -> dict[str, Parked]:
    cursor = await read_cursor(kafka.settings, "test", kafka.declaration().cursor_topic)
    return dict(cursor.parked)


def parking(**changes: Any) -> dict[str, Any]:
    return {"on_failure": "park", **changes}


async def test_a_stream_with_an_event_that_cannot_be_sent_is_held_back_from_there_and_others_go_on(
    narrow: Kafka, store: EventStore
) -> None:
    await append(store, "order-1", placed(), LARGE, placed())
    await append(store, "order-2", placed(), placed())
    await publish_all(narrow, store, **parking())
    await append(store, "order-1", placed())
    await append(store, "order-2", placed())
    await publish_all(narrow, store, **parking())
    assert await versions(narrow) == {"order-1": [1], "order-2": [1, 2, 3]}
    held = (await parked(narrow))["order-1"]
    assert (held.position, held.stream_version) == (2, 2)
    assert "accepts 2000" in held.reason


async def test_what_is_parked_is_copied_to_postgres_for_display(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", placed(), LARGE, placed())
    await publish_all(narrow, store, **parking())
    (row,) = await store.database.fetch("list_parked_by_publishers", ["orders"])
    assert tuple(row)[:4] == ("orders", "order-1", 2, 2)
    assert row[6] == 2
    await widen(narrow)
    await unpark(store, narrow.declaration(**parking()), narrow.settings, "order-1")
    assert await store.database.fetch("list_parked_by_publishers", ["orders"]) == []


async def test_the_copy_moves_with_the_checkpoint_in_one_statement(
    kafka: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that is frozen between two statements would keep its heir from moving the checkpoint."""
    await append(store, "order-1", placed())
    (event,) = await store.read_all().to_list()
    (group,) = kafka.declaration().all_groups()
    cursor = Cursor(
        Checkpoint(int(str(event.position)), event.event_id, 1),
        parked={"order-9": Parked(1, 1, "too large", "2024-01-01T00:00:00+00:00")},
    )
    mirror = await Mirror.found(store.database, group)
    monkeypatch.delattr(Database, "transaction")
    mirror.note(cursor)
    await mirror.write()

    (row,) = await store.database.fetch("list_parked_by_publishers", ["orders"])
    assert row[1] == "order-9"
    assert await Checkpoints(store.database).load(group.checkpoint_name) == cursor.checkpoint


async def test_once_it_fits_the_whole_stream_is_sent_in_order_and_no_longer_parked(
    narrow: Kafka, store: EventStore
) -> None:
    await append(store, "order-1", placed(), LARGE, *[placed()] * 5)
    await publish_all(narrow, store, **parking())
    await widen(narrow)
    done = await unpark(store, narrow.declaration(**parking()), narrow.settings, "order-1")
    assert (done.sent, done.parked) == (6, None)
    await append(store, "order-1", placed())
    await publish_all(narrow, store, **parking())
    assert await versions(narrow) == {"order-1": list(range(1, 9))}
    assert await parked(narrow) == {}


async def test_long_held_streams_are_sent_page_by_page_each_with_the_place_to_go_on(
    narrow: Kafka, store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eventstore.kafka.repairing._PAGE", 3)
    monkeypatch.setattr("eventstore.kafka.packing.TRANSACTION_BYTES", 50)
    await append(store, "order-1", LARGE, *[placed()] * 10)
    await publish_all(narrow, store, **parking())
    await widen(narrow)
    done = await unpark(store, narrow.declaration(**parking()), narrow.settings, "order-1")
    assert (done.sent, done.parked) == (11, None)
    assert await versions(narrow) == {"order-1": list(range(1, 12))}


async def test_what_still_does_not_fit_stays_parked_from_there(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", LARGE, placed(), placed(sku="t" * 50_000), placed())
    await publish_all(narrow, store, **parking())
    await narrow.set_topic(narrow.orders, retention_ms="-1", max_message_bytes="20000")
    for sent in (2, 0):
        done = await unpark(store, narrow.declaration(**parking()), narrow.settings, "order-1")
        assert done.sent == sent
        assert done.parked is not None
        assert done.parked.stream_version == 3
        assert "accepts 20000" in done.parked.reason
    assert await versions(narrow) == {"order-1": [1, 2]}


async def test_a_publisher_at_work_goes_on_after_a_stream_was_sent_beside_it(narrow: Kafka, store: EventStore) -> None:
    publisher = narrow.publisher(store, **parking())
    async with working(publisher):
        await append(store, "order-1", placed(), LARGE, placed())
        await publisher.progress.caught_up(store.log)
        await widen(narrow)
        await unpark(store, narrow.declaration(**parking()), narrow.settings, "order-1")
        await append(store, "order-1", placed())

        async def is_whole() -> bool:
            return await versions(narrow) == {"order-1": [1, 2, 3, 4]}

        await eventually(is_whole)


async def test_by_default_it_halts(narrow: Kafka, store: EventStore) -> None:
    await append(store, "order-1", placed(), LARGE)
    await append(store, "order-2", placed())
    with pytest.raises(MessageTooLargeError):
        await run_to_its_end(narrow.publisher(store))
    assert await versions(narrow) == {"order-1": [1]}


async def test_with_too_many_parked_streams_it_halts_and_everything_before_was_sent(
    narrow: Kafka, store: EventStore
) -> None:
    for number in range(3):
        await append(store, f"order-{number}", placed(), LARGE)
    with pytest.raises(TooManyUnpublishedStreamsError, match="order-2"):
        await run_to_its_end(narrow.publisher(store, **parking(max_parked=2)))
    assert await versions(narrow) == {f"order-{number}": [1] for number in range(3)}
    assert sorted(await parked(narrow)) == ["order-0", "order-1"]
    await publish_all(narrow, store, **parking(max_parked=3))
    assert len(await parked(narrow)) == 3


async def test_an_event_without_a_topic_is_parked_too_or_halts(kafka: Kafka, store: EventStore) -> None:
    def to(route: Route) -> str:
        return {"OrderPlaced": "order", "OrderShipped": "no topic!"}[route.event_type]

    await append(store, "order-1", placed())
    await store.append("note-1", [placed()], expected_version=ANY)
    await append(store, "order-1", SHIPPED, placed())
    declared = {"topic": by_function(to), "categories": None}
    with pytest.raises(UnroutableEventError, match="no topic!"):
        await run_to_its_end(kafka.publisher(store, **declared))
    await publish_all(kafka, store, **declared, **parking())
    assert await versions(kafka) == {"order-1": [1], "note-1": [1]}
    assert "no topic!" in (await parked(kafka))["order-1"].reason


async def test_a_stream_that_is_not_parked_is_said_so(kafka: Kafka, store: EventStore) -> None:
    await append(store, "order-1", placed())
    await publish_all(kafka, store, **parking())
    with pytest.raises(NotParkedByPublisherError, match="order-7"):
        await unpark(store, kafka.declaration(**parking()), kafka.settings, "order-7")


def test_what_becomes_of_failures_is_checked_when_it_is_declared() -> None:

    for arguments in ({"on_failure": "skip"}, {"max_parked": 0}, {"max_parked": 1001}, {"groups": 0}, {"groups": 65}):
        with pytest.raises(ConfigurationError):
            Publisher("orders", **arguments)


async def run_to_its_end(publisher: KafkaPublisher) -> None:
    async with asyncio.timeout(WITHIN):
        await publisher.run()
