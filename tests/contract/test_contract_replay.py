"""Replaying a stream: every bound and limit, and a highest version that nothing brings down."""

from __future__ import annotations

from typing import Any

import pytest

from eventstore import ANY, NO_STREAM, EventStore
from eventstore.errors import UnstorablePayloadError, WrongExpectedVersionError
from fixtures.shop import SHIPPED, NoteTaken, OrderPlaced, OrderShipped, placed


@pytest.fixture
async def five(any_store: EventStore) -> EventStore:
    """A store with five notes in `note-1`, beside streams whose names are nearly the same."""
    for stream_id in ("note-1", "note-11", "note-1-1", "notes-1"):
        await any_store.append(stream_id, [NoteTaken(text="1")], expected_version=NO_STREAM)
    await any_store.append("note-1", [NoteTaken(text="2")], expected_version=1)
    await any_store.append("note-1", [NoteTaken(text="3")], expected_version=2)
    await any_store.append("note-1", [NoteTaken(text="4"), NoteTaken(text="5")], expected_version=3)
    return any_store


REPLAYS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "without a bound": ({}, [1, 2, 3, 4, 5]),
    "from a version": ({"from_version": 3}, [3, 4, 5]),
    "to a version": ({"to_version": 3}, [1, 2, 3]),
    "at most so many": ({"limit": 3}, [1, 2, 3]),
    "from one to another": ({"from_version": 2, "to_version": 3}, [2, 3]),
    "from one to another, at most so many": ({"from_version": 2, "to_version": 5, "limit": 2}, [2, 3]),
    "a limit that the bounds do not reach": ({"from_version": 2, "to_version": 3, "limit": 9}, [2, 3]),
    "one version": ({"from_version": 2, "to_version": 2}, [2]),
    "one event of several": ({"from_version": 2, "to_version": 4, "limit": 1}, [2]),
    "none, by the limit": ({"from_version": 2, "to_version": 4, "limit": 0}, []),
    "none, by bounds the wrong way round": ({"from_version": 3, "to_version": 2}, []),
    "none, beyond the end": ({"from_version": 6}, []),
    "to a version beyond the end": ({"from_version": 4, "to_version": 99}, [4, 5]),
}


@pytest.mark.origin("Akka Persistence", "KurrentDB", "message-db")
@pytest.mark.parametrize(("bounds", "wanted"), REPLAYS.values(), ids=REPLAYS)
async def test_a_replay_keeps_to_its_bounds_and_its_limit(
    five: EventStore, bounds: dict[str, Any], wanted: list[int]
) -> None:
    events = await five.read_stream("note-1", of=NoteTaken, **bounds).to_list()

    assert [event.stream_version for event in events] == wanted
    assert [event.data.text for event in events] == [str(version) for version in wanted]
    assert {event.stream_id for event in events} <= {"note-1"}


@pytest.mark.origin("Akka Persistence")
@pytest.mark.parametrize("bounds", [bounds for bounds, _ in REPLAYS.values()], ids=REPLAYS)
async def test_the_highest_version_is_told_whatever_is_replayed(five: EventStore, bounds: dict[str, Any]) -> None:
    async with five.transaction() as tx:  # the replay and the question see the same stream
        await tx.read_stream("note-1", **bounds).to_list()
        info = await tx.stream_info("note-1")

    assert info is not None
    assert info.version == 5


@pytest.mark.origin("Akka Persistence", "message-db", "commanded")
async def test_a_stream_without_events_has_no_version(five: EventStore) -> None:
    assert await five.read_stream("note-404").to_list() == []
    assert await five.stream_info("note-404") is None
    await five.append("note-404", [SHIPPED], expected_version=0)


@pytest.mark.origin("Akka Persistence")
async def test_the_highest_version_never_falls(five: EventStore) -> None:
    """Nothing deletes events; what else ends or removes something does not bring a stream back either."""
    with pytest.raises(ZeroDivisionError):
        async with five.transaction() as tx:
            assert (await tx.append("note-1", [SHIPPED, SHIPPED], expected_version=5)).stream_version == 7
            raise ZeroDivisionError
    with pytest.raises(WrongExpectedVersionError) as raised:
        await five.append("note-1", [SHIPPED], expected_version=7)
    await five.log.delete_snapshots("note-1")

    assert raised.value.actual == 5
    assert (await five.append("note-1", [SHIPPED], expected_version=5)).stream_version == 6
    assert [event.stream_version for event in await five.read_stream("note-1").to_list()] == [1, 2, 3, 4, 5, 6]


@pytest.mark.origin("Akka Persistence")
async def test_an_event_that_cannot_be_written_refuses_its_own_append_and_no_other(five: EventStore) -> None:
    await five.append("note-1", [NoteTaken(text="6")], expected_version=5)
    with pytest.raises(UnstorablePayloadError):
        await five.append("note-1", [NoteTaken(text="7"), NoteTaken(text="\ud800")], expected_version=6)
    await five.append("note-1", [NoteTaken(text="8")], expected_version=6)

    texts = [event.data.text for event in await five.read_stream("note-1", of=NoteTaken).to_list()]
    assert texts == ["1", "2", "3", "4", "5", "6", "8"]


@pytest.mark.origin("message-db", "KurrentDB")
async def test_the_last_event_is_read_alone_of_any_type_or_of_one(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(1), placed(2), SHIPPED], expected_version=NO_STREAM)

    (last,) = await any_store.read_stream("order-1", backwards=True, limit=1).to_list()
    (placed_last,) = await any_store.read_stream("order-1", of=OrderPlaced, backwards=True, limit=1).to_list()
    none = await any_store.read_stream("order-1", of=NoteTaken, backwards=True, limit=1).to_list()

    assert (last.stream_version, placed_last.stream_version, none) == (3, 2, [])
    assert isinstance(last.data, OrderShipped)


@pytest.mark.origin("commanded")
async def test_eight_thousand_and_one_events_are_one_append(any_store: EventStore) -> None:
    notes = [NoteTaken(text=str(number)) for number in range(8001)]

    result = await any_store.append("note-1", notes, expected_version=0)

    assert result.stream_version == 8001
    log = any_store.read_all(of=NoteTaken)
    assert [(event.stream_version, event.data.text) async for event in log] == [(n + 1, str(n)) for n in range(8001)]


@pytest.mark.origin("commanded")
async def test_appends_to_several_streams_by_turns_keep_each_streams_order_and_the_logs(any_store: EventStore) -> None:
    turns = ["order-1", "order-2", "order-1", "order-2"]
    for turn, stream_id in enumerate(turns):
        await any_store.append(stream_id, [placed(2 * turn), placed(2 * turn + 1)], expected_version=ANY)

    log = await any_store.read_all(of=OrderPlaced).to_list()
    assert [event.data.quantity for event in log] == list(range(8))
    for stream_id in ("order-1", "order-2"):
        assert [event.stream_version for event in log if event.stream_id == stream_id] == [1, 2, 3, 4]


@pytest.mark.origin("commanded")
async def test_text_of_any_script_comes_back(any_store: EventStore) -> None:
    texts = [
        "Unicode ✅",
        "日本語",
        "עברית",
        "e\u0301 is not é",
        "\U0001f469\u200d\U0001f4bb",
        "\u0001\u001f\u007f\u2028",
    ]
    await any_store.append("note-ü✅", [NoteTaken(text=text) for text in texts], expected_version=0)

    assert [event.data.text async for event in any_store.read_stream("note-ü✅", of=NoteTaken)] == texts
