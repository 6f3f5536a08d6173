"""Events as records: what arrives is what the log holds, and any CloudEvents reader understands it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest
from aiokafka.producer import sender

from eventstore.codec import StoredEvent
from eventstore.kafka.packing import partition_of
from eventstore.kafka.producer import BETWEEN_TRANSACTIONS, lower_pause_between_transactions
from eventstore.outbox import CloudEvents, read_event
from eventstore.outbox.cloudevents import NotAnEventError

EVENT = StoredEvent(
    position=4711,
    stream_id="order-42",
    stream_version=7,
    event_id=UUID("01890a5d-ac96-774b-bcce-b302099a8057"),
    event_type="OrderPlaced",
    schema_version=2,
    data='{"sku": "grüner Tee", "price": 1e22}',
    metadata='{"$actor": "Zoë"}',
    correlation_id="conversation ☃",
    causation_id="01890a5d-ac96-774b-bcce-b302099a8056",
    occurred_at=datetime(2011, 10, 1, 0, 38, 44, 546001, tzinfo=UTC),
    recorded_at=datetime(2024, 2, 29, 23, 59, 59, 999999, tzinfo=UTC),
)


def headers_of(event: StoredEvent) -> dict[str, bytes]:
    cloud_events = CloudEvents("/shop")
    return dict(cloud_events.headers(event, cloud_events.of_stream(event.stream_id)))


def sent_and_read(event: StoredEvent) -> StoredEvent:
    return read_event(event.data.encode(), headers_of(event))


@pytest.mark.parametrize(
    "event",
    [
        EVENT,
        EVENT._replace(metadata=None, correlation_id=None, causation_id=None),
        EVENT._replace(occurred_at=datetime(1, 1, 1, tzinfo=UTC), recorded_at=datetime(2024, 1, 1, tzinfo=UTC)),
        EVENT._replace(stream_id="order-ключ 100%-ä", event_type="Bestellt ✓"),
        EVENT._replace(data="{}"),
    ],
)
def test_an_event_arrives_exactly_as_the_log_holds_it(event: StoredEvent) -> None:
    assert sent_and_read(event) == event


def test_its_headers_are_cloudevents_in_binary_mode() -> None:
    headers = headers_of(EVENT)
    assert headers["ce_specversion"] == b"1.0"
    assert headers["content-type"] == b"application/json"
    assert headers["ce_id"] == b"01890a5d-ac96-774b-bcce-b302099a8057"
    assert headers["ce_type"] == b"OrderPlaced"
    assert headers["ce_subject"] == b"order-42"
    assert headers["ce_time"] == b"2011-10-01T00:38:44.546001+00:00"


def test_the_same_event_id_in_two_streams_is_two_cloudevents() -> None:
    """CloudEvents readers take (source, id) for the identity; ids are unique within their stream only."""
    one, other = (headers_of(EVENT._replace(stream_id=name)) for name in ("order-1", "order-2"))
    assert (one["ce_source"], one["ce_id"]) != (other["ce_source"], other["ce_id"])


def test_a_source_is_a_uri_reference_whatever_the_stream_is_called() -> None:
    headers = headers_of(EVENT._replace(stream_id="order-ä b"))
    assert headers["ce_source"] == b"/shop/order-%C3%A4%20b"


@pytest.mark.parametrize("header", ["stream_id", "stream_version", "ce_id", "ce_time", "global_position"])
def test_what_is_missing_is_named_and_no_value_is_shown(header: str) -> None:
    headers = headers_of(EVENT)
    del headers[header]
    with pytest.raises(NotAnEventError, match=header) as refused:
        read_event(EVENT.data.encode(), headers)
    assert "Tee" not in str(refused.value)


def test_what_cannot_be_read_is_no_event() -> None:
    headers = headers_of(EVENT)
    with pytest.raises(NotAnEventError):
        read_event(b"\xff", headers)
    with pytest.raises(NotAnEventError):
        read_event(b"{}", headers | {"ce_id": b"no uuid"})


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_partitions_are_those_of_the_java_clients(key: bytes, hashed: int) -> None:
    """The hashes are those of Kafka's own test of its partitioner."""
    assert partition_of(key, 2**31) == hashed & 0x7FFF_FFFF
    assert partition_of(key, 12) == (hashed & 0x7FFF_FFFF) % 12


def test_the_pause_between_transactions_is_still_where_it_was() -> None:
    """Without it everything is right, only ten times slower: look for its successor in aiokafka's sender."""
    assert lower_pause_between_transactions()
    assert sender.BACKOFF_OVERRIDE == BETWEEN_TRANSACTIONS


def test_a_missing_pause_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(sender, "BACKOFF_OVERRIDE")
    assert not lower_pause_between_transactions()
    assert not hasattr(sender, "BACKOFF_OVERRIDE")
