"""Time and ids that a test decides."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from eventstore import NO_STREAM
from eventstore.errors import InvalidArgumentError
from eventstore.testing import FakeClock, memory_store, sequential_ids
from fixtures.shop import app, placed


def test_a_clock_stands_still_until_it_is_moved() -> None:
    clock = FakeClock()

    assert clock() == clock() == datetime(2024, 1, 1, tzinfo=UTC)
    assert clock.advance(days=1, hours=2, minutes=3, seconds=4, milliseconds=5) == clock()
    assert clock() == datetime(2024, 1, 2, 2, 3, 4, 5000, tzinfo=UTC)


def test_a_clock_can_be_set_and_shows_utc() -> None:
    clock = FakeClock(datetime(2024, 5, 1, 12, tzinfo=timezone(timedelta(hours=2))))
    assert clock().isoformat() == "2024-05-01T10:00:00+00:00"

    clock.set(datetime(2000, 1, 1, tzinfo=UTC))
    assert clock() == datetime(2000, 1, 1, tzinfo=UTC)


def test_a_clock_without_a_zone_is_refused() -> None:
    naive = datetime(2024, 1, 1)  # noqa: DTZ001 - that is the point
    with pytest.raises(InvalidArgumentError):
        FakeClock(naive)
    with pytest.raises(InvalidArgumentError):
        FakeClock().set(naive)


def test_ids_count() -> None:
    new_id, another = sequential_ids(), sequential_ids()

    assert [str(new_id()) for _ in range(2)] == [
        "00000000-0000-7000-8000-000000000001",
        "00000000-0000-7000-8000-000000000002",
    ]
    assert another() != new_id()
    assert new_id().version == 7


async def test_a_store_in_memory_uses_both() -> None:
    clock = FakeClock()
    store = memory_store(app, clock=clock, new_id=sequential_ids())
    await store.append("order-1", [placed()], expected_version=NO_STREAM)
    clock.advance(days=1)
    await store.append("order-1", [placed()], expected_version=1)

    first, second = await store.read_stream("order-1").to_list()
    assert (first.event_id.int & 0xFF, second.event_id.int & 0xFF) == (1, 2)
    assert second.occurred_at - first.occurred_at == second.recorded_at - first.recorded_at == timedelta(days=1)
