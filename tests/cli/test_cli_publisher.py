"""`publisher`: what is parked, and repairs by hand."""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import pytest

from eventstore.kafka import KafkaSettings
from fixtures.cli_kit import EventstoreCommand
from fixtures.kafka_tools import Kafka

LARGE = json.dumps({"type": "OrderPlaced", "data": {"sku": "s3cret" * 1000, "quantity": 1}})
SMALL = json.dumps({"type": "OrderShipped", "data": {"carrier": "dhl"}})


@dataclass(frozen=True)
class Shop:
    """The shop with a publisher that parks, and topics of the test's own; `split` declares it with two groups."""

    kafka: Kafka
    app: str
    split: str

    def versions(self, topic: str | None = None) -> list[int]:
        """Return the versions that are in a topic."""
        return [event.stream_version for event in asyncio.run(self.kafka.events(topic or self.kafka.orders))]


@pytest.fixture
def shop(es: EventstoreCommand, settings: pytest.MonkeyPatch, kafka_bootstrap: str, tmp_path: Path) -> Shop:
    """An order with an event that is too large for its topic, published."""
    module = f"publisher_shop_{uuid.uuid4().hex[:8]}"
    declared = f"'{module}-', on_failure='park', partitions=3"
    (tmp_path / f"{module}.py").write_text(
        f"from cli_shop import make_app\napp = make_app({declared})\nsplit = make_app({declared}, groups=2)\n",
        encoding="utf-8",
    )
    settings.setattr(sys, "path", [*sys.path, str(tmp_path)])
    settings.setenv("EVENTSTORE_APP", f"{module}:app")
    settings.setenv("EVENTSTORE_KAFKA", kafka_bootstrap)
    kafka = Kafka(KafkaSettings(kafka_bootstrap), f"{module}-")
    asyncio.run(kafka.create_topic(kafka.orders, 3, retention_ms="-1", max_message_bytes="2000"))
    for event in (SMALL, LARGE, SMALL):
        es.ok("append", "order-1", "--expected-version", "any", stdin=event)
    es.ok("publish", "--until-caught-up")
    return Shop(kafka, f"{module}:app", f"{module}:split")


def test_what_is_parked_is_listed_and_shown_without_what_is_in_it(es: EventstoreCommand, shop: Shop) -> None:
    assert shop.versions() == [1]
    (row,) = es.json("publisher", "parked")
    assert (row["publisher"], row["stream_id"], row["stream_version"], row["held"]) == ("orders", "order-1", 2, 2)
    assert "accepts 2000" in row["why"]
    assert "order-1" in es.ok("publisher", "parked", "orders")
    shown = es.ok("publisher", "show", "orders", "order-1")
    assert "accepts 2000" in shown
    assert "s3cret" not in shown
    (counted,) = es.json("status")["parked"]
    assert (counted["name"], counted["streams"]) == ("publisher:orders", 1)
    assert [event["stream_version"] for event in es.json("publisher", "show", "orders", "order-1")["events"]] == [2, 3]


def test_a_parked_stream_is_sent_once_it_fits(es: EventstoreCommand, shop: Shop) -> None:
    assert "still parked at version 2" in es.ok("publisher", "unpark", "orders", "order-1")
    asyncio.run(shop.kafka.set_topic(shop.kafka.orders, retention_ms="-1", max_message_bytes="20000"))
    done = es.json("publisher", "unpark", "orders", "order-1")
    assert (done["sent"], done["parked_at_version"]) == (2, None)
    assert shop.versions() == [1, 2, 3]
    assert es.json("publisher", "parked") == []
    assert "not parked 'order-1'" in es.fails(5, "publisher", "unpark", "orders", "order-1")
    assert "not parked 'order-1'" in es.fails(5, "publisher", "show", "orders", "order-1")


def test_an_event_that_can_never_be_sent_is_discarded_and_who_did_so_is_kept(es: EventstoreCommand, shop: Shop) -> None:
    arguments = ("publisher", "discard", "orders", "order-1", "--reason", "a typo", "--by", "ann")
    assert "--yes" in es.fails(2, *arguments)
    assert "--version" in es.fails(2, *arguments, "--yes")
    assert "from version 2 on, not from 3" in es.fails(1, *arguments, "--yes", "--version", "3")
    done = es.json(*arguments, "--yes", "--version", "2")
    assert (done["sent"], done["parked_at_version"]) == (1, None)
    assert shop.versions() == [1, 2, 3]
    (note,) = es.json("parked", "list", "--discarded")
    assert (note["consumer"], note["stream_version"], note["discarded_by"]) == ("publisher:orders", 2, "ann")
    assert "not parked 'order-1'" in es.fails(5, *arguments, "--yes", "--version", "2")


def test_a_range_is_replayed_once(es: EventstoreCommand, shop: Shop) -> None:
    topic = f"{shop.kafka.prefix}repair"
    arguments = ("publisher", "replay", "orders", "--from", "1", "--to", "3", "--topic", topic)
    assert es.json(*arguments)["sent"] == 3
    assert "0 event(s) sent, after position 3 of an earlier run" in es.ok(*arguments)
    assert sorted(shop.versions(topic)) == [1, 2, 3]
    assert "settled" in es.fails(2, "publisher", "replay", "orders", "--from", "1", "--to", "99", "--topic", topic)


def test_partitions_are_accepted(es: EventstoreCommand, shop: Shop) -> None:
    asyncio.run(shop.kafka.add_partitions(shop.kafka.orders, 5))
    assert "publisher accept-partitions orders" in es.fails(1, "publish", "--until-caught-up", "--within", "20")
    changed = es.json("publisher", "accept-partitions", "orders")["changed"]
    assert changed == {shop.kafka.orders: {"from": 3, "to": 5}}
    es.ok("publish", "--until-caught-up")


def test_a_publisher_is_regrouped(es: EventstoreCommand, shop: Shop) -> None:
    split = ("--app", shop.split)
    assert "publisher regroup orders" in es.fails(1, "publish", "--until-caught-up", "--within", "20", *split)
    assert es.json("publisher", "regroup", "orders", *split) == {"publisher": "orders", "before": 1, "groups": 2}
    es.ok("append", "order-2", "--expected-version", "any", stdin=SMALL)
    es.ok("publish", "--until-caught-up", "--within", "30", *split)
    assert sorted(shop.versions()) == [1, 1]
    assert es.json("publisher", "parked", *split)[0]["stream_id"] == "order-1"


def test_a_wrong_name_is_said(es: EventstoreCommand) -> None:
    for command in ("parked", "regroup"):
        assert "there are: orders" in es.fails(2, "publisher", command, "ordering")
