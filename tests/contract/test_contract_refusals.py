"""What is wrong with a call is said in a typed error before anything is sent."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo
from typing import Any

import pytest

from eventstore import ANY, NO_STREAM, EventStore, NewEvent, StreamId
from eventstore.errors import (
    ClosedError,
    EmptyAppendError,
    InvalidArgumentError,
    InvalidStreamIdError,
    UnknownEventTypeError,
    UnstorablePayloadError,
)
from eventstore.testing import memory_store
from fixtures import shop
from fixtures.shop import NoteTaken, UnregisteredEvent, placed
from fixtures.stores import open_store

INVALID_STREAM_IDS = {
    "empty": "",
    "no separator": "order",
    "no category": "-1",
    "no key": "order-",
    "over-long": "order-" + "x" * 250,
    "over-long in bytes": "order-" + "é" * 125,
    "NUL": "order-\x00",
    "newline": "order-1\n2",
    "tenant": "acme/order-1",
    "slash in the key": "order-1/2",
    "surrogate": "order-\ud800",
}


@pytest.fixture
async def untouched(any_store: EventStore) -> AsyncIterator[EventStore]:
    """A store that is still empty when the test is over."""
    yield any_store
    await _require_empty(any_store)


async def _require_empty(store: EventStore) -> None:
    assert await store.read_all().to_list() == []
    assert [info async for info in store.list_streams()] == []


@pytest.mark.parametrize("stream_id", INVALID_STREAM_IDS.values(), ids=INVALID_STREAM_IDS)
async def test_an_invalid_stream_id_is_refused(untouched: EventStore, stream_id: str) -> None:
    with pytest.raises(InvalidStreamIdError) as raised:
        await untouched.append(stream_id, [placed()], expected_version=ANY)
    assert not raised.value.retryable
    str(raised.value).encode()
    with pytest.raises(InvalidStreamIdError):
        untouched.read_stream(stream_id)
    with pytest.raises(InvalidStreamIdError):
        await untouched.stream_info(stream_id)


@pytest.mark.parametrize("stream_id", [None, 1, b"order-1", ["order-1"], ("order", "1")], ids=repr)
async def test_what_is_no_stream_id_is_refused(untouched: EventStore, stream_id: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="stream id"):
        await untouched.append(stream_id, [placed()], expected_version=ANY)
    with pytest.raises(InvalidArgumentError, match="stream id"):
        untouched.read_stream(stream_id)
    with pytest.raises(InvalidArgumentError, match="strings"):
        StreamId("order", stream_id)


async def test_a_tenant_is_refused_by_a_store_without_tenants(untouched: EventStore) -> None:
    with pytest.raises(InvalidStreamIdError, match="no tenants"):
        await untouched.append(StreamId("order", "1", tenant="acme"), [placed()], expected_version=ANY)


@pytest.mark.origin("KurrentDB")
async def test_an_empty_append_is_an_error(untouched: EventStore) -> None:
    with pytest.raises(EmptyAppendError) as raised:
        await untouched.append("order-1", [], expected_version=ANY)
    assert raised.value.stream_id == "order-1"


NOT_EVENTS: dict[str, Any] = {
    "bare model": placed(),
    "bare NewEvent": NewEvent(placed()),
    "string": "OrderPlaced",
    "generator": (event for event in [placed()]),
    "set": frozenset({1}),
    "list of dicts": [{"sku": "tea"}],
    "list of classes": [NoteTaken],
    "list of None": [None],
}


@pytest.mark.parametrize("events", NOT_EVENTS.values(), ids=NOT_EVENTS)
async def test_what_is_not_a_sequence_of_events_is_refused(untouched: EventStore, events: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        await untouched.append("order-1", events, expected_version=ANY)


WRONG_VERSIONS: dict[str, Any] = {
    "-1": -1,
    "-3": -3,
    "a bool": True,
    "None": None,
    "text": "any",
    "a float": 1.0,
    "beyond 64 bits": 2**63,
    "too long to show": 10**5000,
    "too long to show, negative": -(10**5000),
}


@pytest.mark.parametrize("expected", WRONG_VERSIONS.values(), ids=WRONG_VERSIONS)
async def test_an_expected_version_that_is_none_is_refused(untouched: EventStore, expected: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="expected_version"):
        await untouched.append("order-1", [placed()], expected_version=expected)


async def test_an_unregistered_event_refuses_the_whole_append(untouched: EventStore) -> None:
    with pytest.raises(UnknownEventTypeError) as raised:
        await untouched.append("order-1", [placed(), UnregisteredEvent()], expected_version=NO_STREAM)
    assert raised.value.event_type == "UnregisteredEvent"


async def test_an_unstorable_event_refuses_the_whole_append(untouched: EventStore) -> None:
    with pytest.raises(UnstorablePayloadError):
        await untouched.append("note-1", [placed(), NoteTaken(text="\x00")], expected_version=NO_STREAM)


NEW_EVENTS: dict[str, dict[str, Any]] = {
    "an id that is text": {"event_id": "018f0000-0000-7000-8000-000000000000"},
    "an id that is a number": {"event_id": 7},
    "a time that is text": {"occurred_at": "2024-05-01T00:00:00Z"},
    "a day": {"occurred_at": date(2024, 5, 1)},
    "a time before the first in UTC": {"occurred_at": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
    "a time after the last in UTC": {"occurred_at": datetime(9999, 12, 31, 23, tzinfo=timezone(timedelta(hours=-2)))},
    "the first moment of all, which the driver takes for -infinity": {"occurred_at": datetime.min.replace(tzinfo=UTC)},
    "the last one, which it takes for infinity": {"occurred_at": datetime.max.replace(tzinfo=UTC)},
    "metadata that is a dict": {"metadata": {"actor": "bob"}},
}


@pytest.mark.parametrize("arguments", NEW_EVENTS.values(), ids=NEW_EVENTS)
def test_a_new_event_of_wrong_parts_is_refused_where_it_is_made(arguments: dict[str, Any]) -> None:
    """Not later: what goes wrong in the statement of a batch goes wrong for its neighbours, too."""
    with pytest.raises(InvalidArgumentError):
        NewEvent(placed(), **arguments)


async def test_metadata_that_is_a_dict_is_refused(untouched: EventStore) -> None:
    wrong: Any = {"actor": "bob"}
    with pytest.raises(InvalidArgumentError, match="Metadata"):
        await untouched.append("order-1", [placed()], expected_version=ANY, metadata=wrong)


async def test_the_farthest_moments_come_back(any_store: EventStore) -> None:
    microsecond = timedelta(microseconds=1)
    moments = [datetime.min.replace(tzinfo=UTC) + microsecond, datetime.max.replace(tzinfo=UTC) - microsecond]
    await any_store.append("order-1", [NewEvent(placed(), occurred_at=at) for at in moments], expected_version=ANY)

    assert [event.occurred_at for event in await any_store.read_stream("order-1").to_list()] == moments


def test_a_naive_business_time_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="aware"):
        NewEvent(placed(), occurred_at=datetime(2024, 5, 1))  # noqa: DTZ001 - that is the point


class NoOffset(tzinfo):
    """A zone that says no offset: Python counts a time with it as naive."""

    def utcoffset(self, _time: datetime | None) -> None:
        return None

    tzname = dst = utcoffset


def test_a_business_time_in_a_zone_without_an_offset_is_refused() -> None:
    """Taken for the machine's local time, it would be stored as another moment in silence."""
    with pytest.raises(InvalidArgumentError, match="aware"):
        NewEvent(placed(), occurred_at=datetime(2024, 5, 1, tzinfo=NoOffset()))


async def test_naive_times_are_refused_when_reading(untouched: EventStore) -> None:
    naive = datetime(2024, 5, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidArgumentError, match="occurred_until"):
        untouched.read_stream("order-1", occurred_until=naive)
    with pytest.raises(InvalidArgumentError, match="recorded_until"):
        untouched.read_stream("order-1", recorded_until=naive)
    with pytest.raises(InvalidArgumentError, match="recorded_from"):
        untouched.read_all(recorded_from=naive)


READS: dict[str, dict[str, Any]] = {
    "version 0": {"from_version": 0},
    "negative version": {"to_version": -1},
    "negative limit": {"limit": -1},
    "a version that is no integer": {"from_version": 1.5},
    "a limit that is text": {"limit": "3"},
    "a time that is text": {"occurred_until": "2024-05-01"},
    "a time before the first in UTC": {"recorded_until": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))},
    "not a model": {"of": str},
    "an instance": {"of": placed()},
}


@pytest.mark.parametrize("arguments", READS.values(), ids=READS)
async def test_a_wrong_argument_of_a_read_is_refused_before_it_is_iterated(
    untouched: EventStore, arguments: dict[str, Any]
) -> None:
    with pytest.raises(InvalidArgumentError):
        untouched.read_stream("order-1", **arguments)


async def test_bounds_beyond_all_versions_are_just_far_away(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(), placed()], expected_version=NO_STREAM)

    assert await any_store.read_stream("order-1", from_version=2**70).to_list() == []
    assert len(await any_store.read_stream("order-1", to_version=2**70, limit=2**70).to_list()) == 2
    assert len(await any_store.read_stream("order-1", to_version=2**63, backwards=True).to_list()) == 2


async def test_a_category_that_is_no_text_is_refused(untouched: EventStore) -> None:
    wrong: Any = [1]
    with pytest.raises(InvalidArgumentError, match="category"):
        untouched.read_all(categories=wrong)


async def test_a_bare_category_is_refused(untouched: EventStore) -> None:
    with pytest.raises(InvalidArgumentError, match="categories"):
        untouched.read_all(categories="order")


async def test_reading_an_unregistered_model_is_refused(untouched: EventStore) -> None:
    with pytest.raises(UnknownEventTypeError):
        untouched.read_stream("order-1", of=UnregisteredEvent)


async def test_a_closed_store_refuses_everything(any_store: EventStore) -> None:
    any_store.close()

    with pytest.raises(ClosedError):
        await any_store.append("order-1", [placed()], expected_version=ANY)
    with pytest.raises(ClosedError):
        async with any_store.transaction():
            pytest.fail("a transaction began on a closed store")


@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_store_whose_block_has_ended_refuses_to_read(kind: str, request: pytest.FixtureRequest) -> None:
    if kind == "memory":
        store = memory_store(shop.app)
        store.close()
    else:
        async with open_store(request.getfixturevalue("dsn")) as store:
            pass

    with pytest.raises(ClosedError):
        await store.read_stream("order-1").to_list()
    with pytest.raises(ClosedError):
        await store.read_all().to_list()
    with pytest.raises(ClosedError):
        await store.stream_info("order-1")


@pytest.mark.parametrize("after", [5, "5", None])
async def test_a_position_that_is_none_is_refused(any_store: EventStore, after: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"Position\.parse"):
        any_store.read_all(after=after)


@pytest.mark.parametrize("timeout", ["2", float("nan"), 0, -1, True])
async def test_a_time_out_that_is_no_time_is_refused(any_store: EventStore, timeout: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="seconds"):
        await any_store.append("order-1", [placed()], expected_version=ANY, timeout=timeout)
    assert await any_store.stream_info("order-1") is None
