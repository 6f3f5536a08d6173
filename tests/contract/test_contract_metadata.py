"""Metadata flows from `with metadata(...)` and from causes; what is said explicitly wins."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from eventstore import NO_STREAM, EventStore, Metadata, NewEvent, current_metadata, metadata
from eventstore.codec.payload import MAX_METADATA_BYTES
from eventstore.errors import InvalidArgumentError, UnstorablePayloadError
from eventstore.metadata import NO_METADATA, caused_by
from fixtures.shop import placed


async def recorded(store: EventStore, stream_id: str = "order-1") -> Metadata:
    """Return the metadata of the first event of a stream."""
    (event,) = await store.read_stream(stream_id, limit=1).to_list()
    return event.metadata


async def test_without_any_there_is_none(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert await recorded(any_store) == NO_METADATA


async def test_everything_comes_back(any_store: EventStore) -> None:
    full = Metadata(
        correlation_id="corr",
        causation_id="cause",
        command_id="cmd",
        actor="alice",
        extra={"nested": {"list": [1, None, "é", True]}, "": 0.5},
    )

    await any_store.append("order-1", [placed()], expected_version=NO_STREAM, metadata=full)

    assert await recorded(any_store) == full


async def test_it_applies_inside_the_block_only(any_store: EventStore) -> None:
    with metadata(correlation_id="request-1", actor="alice"):
        await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    await any_store.append("order-2", [placed()], expected_version=NO_STREAM)

    assert await recorded(any_store) == Metadata(correlation_id="request-1", actor="alice")
    assert await recorded(any_store, "order-2") == NO_METADATA


async def test_inner_blocks_add_to_outer_ones_and_win(any_store: EventStore) -> None:
    with metadata(correlation_id="outer", actor="alice", a=1, b=1), metadata(correlation_id="inner", b=2):
        await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    assert await recorded(any_store) == Metadata(correlation_id="inner", actor="alice", extra={"a": 1, "b": 2})


async def test_the_calls_own_wins_over_the_block_and_the_events_own_over_both(any_store: EventStore) -> None:
    own = NewEvent(placed(), metadata=Metadata(correlation_id="event"))
    with metadata(correlation_id="block", actor="block", causation_id="block"):
        await any_store.append(
            "order-1",
            [own, placed()],
            expected_version=NO_STREAM,
            metadata=Metadata(correlation_id="call", actor="call"),
        )

    first, second = await any_store.read_stream("order-1").to_list()
    assert first.metadata == Metadata(correlation_id="event", actor="call", causation_id="block")
    assert second.metadata == Metadata(correlation_id="call", actor="call", causation_id="block")


async def test_what_follows_from_an_event_names_it_as_its_cause(any_store: EventStore) -> None:
    with metadata(correlation_id="request-1", actor="alice"):
        await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    (cause,) = await any_store.read_stream("order-1").to_list()

    with caused_by(str(cause.event_id), cause.metadata):
        await any_store.append("order-2", [placed()], expected_version=NO_STREAM)

    followed = await recorded(any_store, "order-2")
    assert followed == Metadata(correlation_id="request-1", causation_id=str(cause.event_id), actor="alice")


async def test_a_conversation_begins_with_an_event_that_has_none(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    (cause,) = await any_store.read_stream("order-1").to_list()

    with caused_by(str(cause.event_id), cause.metadata):
        assert current_metadata().correlation_id == str(cause.event_id)


async def test_it_is_captured_when_append_is_called(any_store: EventStore) -> None:
    with metadata(actor="alice"):
        appending = asyncio.create_task(any_store.append("order-1", [placed()], expected_version=NO_STREAM))
    with metadata(actor="bob"):
        await appending

    assert (await recorded(any_store)).actor == "alice"


async def test_tasks_do_not_see_each_others(any_store: EventStore) -> None:
    async def write(name: str) -> None:
        with metadata(actor=name):
            await asyncio.sleep(0)
            await any_store.append(f"order-{name}", [placed()], expected_version=NO_STREAM)

    await asyncio.gather(*(write(name) for name in "abc"))

    assert [(await recorded(any_store, f"order-{name}")).actor for name in "abc"] == ["a", "b", "c"]


async def test_reading_half_a_stream_leaves_no_metadata_behind(any_store: EventStore) -> None:
    await any_store.append(
        "order-1", [placed(), placed()], expected_version=NO_STREAM, metadata=Metadata(actor="alice")
    )
    async for _ in any_store.read_stream("order-1"):
        break

    assert current_metadata() == NO_METADATA


def test_metadata_is_restored_when_the_block_fails() -> None:
    with pytest.raises(RuntimeError), metadata(actor="alice"):
        raise RuntimeError
    assert current_metadata() == NO_METADATA


WRONG: dict[str, dict[str, Any]] = {
    "empty": {"correlation_id": ""},
    "over-long": {"actor": "x" * 256},
    "not a string": {"causation_id": 7},
    "NUL": {"actor": "\x00"},
    "surrogate": {"actor": "\ud800"},
    "reserved": {"extra": {"$command_id": "x"}},
    "name that is none": {"extra": {1: "x"}},
}


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_metadata_that_cannot_be_stored_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        Metadata(**arguments)


async def test_metadata_that_is_too_large_is_refused_before_anything_is_sent(any_store: EventStore) -> None:
    fits = Metadata(extra={"note": "x" * (MAX_METADATA_BYTES - len('{"note": ""}'))})
    too_large = Metadata(extra={"note": "é" * (MAX_METADATA_BYTES // 2)})

    await any_store.append("order-1", [placed()], expected_version=NO_STREAM, metadata=fits)
    with pytest.raises(UnstorablePayloadError, match=f"at most {MAX_METADATA_BYTES}"):
        await any_store.append("order-2", [placed()], expected_version=NO_STREAM, metadata=too_large)

    assert await recorded(any_store) == fits
    assert [info.stream_id async for info in any_store.list_streams()] == ["order-1"]
