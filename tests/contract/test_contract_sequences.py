"""Sequences of appends that end with a repetition: one event at a time, and several together.

Where KurrentDB answers otherwise, the case says what it does: it recognises a repetition by its place, we by its id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import pytest

from eventstore import ANY, NO_STREAM, STREAM_EXISTS, EventStore, ExpectedVersion, NewEvent
from eventstore.clock import uuid7
from eventstore.errors import IdempotencyError, WrongExpectedVersionError
from fixtures.shop import SHIPPED, NoteTaken, placed

IDS = tuple(uuid7() for _ in range(6))


class Sequel(NamedTuple):
    """What is appended after the sequence: which of its events, expecting what; the versions that come back."""

    events: Sequence[int]
    expected: int | ExpectedVersion
    versions: tuple[int, int] | type[Exception]


SEQUELS = {
    "the first again as a new stream": Sequel([0], NO_STREAM, (1, 1)),
    "the first again with ANY": Sequel([0], ANY, (1, 1)),
    "the first again at the end (theirs: appended once more)": Sequel([0], 6, (1, 1)),
    "the first again beyond the end (theirs: a conflict)": Sequel([0], 7, (1, 1)),
    "the first again before the end (theirs: a conflict)": Sequel([0], 5, (1, 1)),
    "the first again with STREAM_EXISTS": Sequel([0], STREAM_EXISTS, (1, 1)),
    "one from the middle with ANY": Sequel([1], ANY, (2, 2)),
    "one from the middle where it was": Sequel([1], 1, (2, 2)),
    "the last one where it was": Sequel([5], 5, (6, 6)),
    "the last one at the end (theirs: appended once more)": Sequel([5], 6, (6, 6)),
    "the first two together": Sequel([0, 1], NO_STREAM, (1, 2)),
    "all together": Sequel([0, 1, 2, 3, 4, 5], NO_STREAM, (1, 6)),
    "all together with ANY": Sequel([0, 1, 2, 3, 4, 5], ANY, (1, 6)),
    "the last ones together": Sequel([3, 4, 5], 3, (4, 6)),
    "known ones, then a new one (theirs: a conflict)": Sequel([0, 1, 6], NO_STREAM, IdempotencyError),
    "the last one, then a new one": Sequel([5, 6], 5, IdempotencyError),
    "a new one": Sequel([6], 6, (7, 7)),
    "a new one as a new stream": Sequel([6], NO_STREAM, WrongExpectedVersionError),
    "a new one beyond the end": Sequel([6], 7, WrongExpectedVersionError),
    "a new one before the end": Sequel([6], 5, WrongExpectedVersionError),
}


def note(number: int, ids: Sequence[UUID] = IDS) -> NewEvent:
    return NewEvent(NoteTaken(text=str(number)), event_id=ids[number] if number < len(ids) else uuid7())


@pytest.mark.origin("KurrentDB")
@pytest.mark.parametrize("together", [False, True], ids=["one by one", "together"])
async def test_a_repetition_is_recognised_by_its_ids_wherever_it_comes(
    any_store: EventStore, *, together: bool
) -> None:
    for what, sequel in SEQUELS.items():
        stream_id = f"note-{what}"
        for number in [0] if together else range(6):
            events = [note(each) for each in (range(6) if together else [number])]
            await any_store.append(stream_id, events, expected_version=number)
        again = any_store.append(stream_id, [note(each) for each in sequel.events], expected_version=sequel.expected)

        if isinstance(sequel.versions, tuple):
            result = await again
            assert (result.first_version, result.stream_version) == sequel.versions, what
            assert result.repeated is (6 not in sequel.events), what
        else:
            with pytest.raises(sequel.versions):
                await again

        texts = [event.data.text for event in await any_store.read_stream(stream_id, of=NoteTaken).to_list()]
        assert texts == [str(number) for number in range(7 if sequel.versions == (7, 7) else 6)], what


@pytest.mark.origin("KurrentDB")
async def test_a_repetition_any_number_of_times_has_one_result(any_store: EventStore) -> None:
    events = [note(number) for number in range(4)]

    results = [await any_store.append("note-1", events, expected_version=ANY) for _ in range(5)]

    assert {result.stream_version for result in results} == {4}
    assert len({result.position for result in results}) == 1
    assert len(await any_store.read_stream("note-1").to_list()) == 4


@pytest.mark.origin("KurrentDB")
async def test_an_old_repetition_is_recognised_however_much_came_after_it(any_store: EventStore) -> None:
    """No cache and no window: what was appended first is known after everything else."""
    await any_store.append("note-1", [note(0)], expected_version=0)
    for begin in range(1, 5001, 1000):
        await any_store.append("note-1", [NoteTaken(text="x")] * 1000, expected_version=begin)

    again = await any_store.append("note-1", [note(0)], expected_version=ANY)

    assert (again.repeated, again.stream_version) == (True, 1)


@pytest.mark.origin("commanded")
async def test_of_many_appends_of_many_events_at_once_one_is_there_whole(any_store: EventStore) -> None:
    async def write(writer: int) -> bool:
        try:
            await any_store.append("order-1", [placed(writer)] * 10, expected_version=NO_STREAM)
        except WrongExpectedVersionError:
            return False
        return True

    won = await asyncio.gather(*(write(writer) for writer in range(5)))

    assert sum(won) == 1
    quantities = [event.data.quantity for event in await any_store.read_stream("order-1").to_list()]
    assert quantities == [won.index(True)] * 10


@pytest.mark.origin("commanded", "KurrentDB")
async def test_writers_that_load_and_try_again_lose_nothing(any_store: EventStore) -> None:
    async def write(writer: int) -> None:
        while True:
            info = await any_store.stream_info("order-1")
            try:
                await any_store.append("order-1", [placed(writer)], expected_version=info.version if info else 0)
            except WrongExpectedVersionError:
                continue
            return

    await asyncio.gather(*(write(writer) for writer in range(12)))

    events = await any_store.read_stream("order-1").to_list()
    assert sorted(event.data.quantity for event in events) == list(range(12))
    assert [event.stream_version for event in events] == list(range(1, 13))


@pytest.mark.origin("message-db")
@pytest.mark.parametrize(
    ("before", "expected", "fits"),
    [(0, 0, True), (0, 1, False), (1, 1, True), (1, 0, False), (1, 2, False), (2, 2, True), (2, 1, False)],
)
async def test_an_expected_version_is_that_of_the_last_event(
    any_store: EventStore, before: int, expected: int, *, fits: bool
) -> None:
    for version in range(before):
        await any_store.append("order-1", [placed()], expected_version=version)

    if fits:
        assert (await any_store.append("order-1", [SHIPPED], expected_version=expected)).stream_version == before + 1
        return
    with pytest.raises(WrongExpectedVersionError) as raised:
        await any_store.append("order-1", [SHIPPED], expected_version=expected)
    assert (raised.value.expected, raised.value.actual) == (expected, before)
