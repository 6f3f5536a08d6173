"""The same ids appended again: the original result, or an error that says what is wrong. Never a second event."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
from pydantic import BaseModel

from eventstore import ANY, NO_STREAM, STREAM_EXISTS, EventStore, ExpectedVersion, Metadata, NewEvent
from eventstore.clock import uuid7
from eventstore.errors import IdempotencyError, InvalidArgumentError
from fixtures.shop import SHIPPED, placed

A, B, C, D = (uuid7() for _ in range(4))


def named(event_id: object, data: BaseModel | None = None) -> NewEvent:
    return NewEvent(data or placed(), event_id=event_id)  # type: ignore[arg-type]


@pytest.fixture
async def with_three(any_store: EventStore) -> EventStore:
    """A store with the events A, B, C in `order-1`, appended as A and B together, then C."""
    await any_store.append("order-1", [named(A), named(B, SHIPPED)], expected_version=NO_STREAM)
    await any_store.append("order-1", [named(C)], expected_version=2)
    return any_store


@pytest.mark.origin("KurrentDB")
@pytest.mark.parametrize("expected", [NO_STREAM, 0, 2, 3, 7, STREAM_EXISTS, ANY], ids=str)
async def test_the_same_append_again_returns_the_original_result(
    with_three: EventStore, expected: int | ExpectedVersion
) -> None:
    before = await with_three.read_stream("order-1").to_list()

    again = await with_three.append("order-1", [named(A), named(B, SHIPPED)], expected_version=expected)

    assert again.repeated
    assert (again.stream_id, again.first_version, again.stream_version) == ("order-1", 1, 2)
    assert again.event_ids == (A, B)
    assert again.position == before[1].position
    assert await with_three.read_stream("order-1").to_list() == before


async def test_metadata_makes_no_other_event(with_three: EventStore) -> None:
    again = await with_three.append(
        "order-1", [named(C)], expected_version=2, metadata=Metadata(correlation_id="another", actor="bob")
    )

    assert again.repeated
    (event,) = await with_three.read_stream("order-1", from_version=3).to_list()
    assert event.correlation_id is None


class Misuse(NamedTuple):
    events: Sequence[NewEvent]
    problem: str


MISUSES = {
    "partly overlapping at the end": Misuse([named(C), named(D)], "1 of 2"),
    "partly overlapping at the beginning": Misuse([named(D), named(A)], "1 of 2"),
    "another order": Misuse([named(B, SHIPPED), named(A)], "another order"),
    "not together": Misuse([named(A), named(C)], "not together"),
    "other content": Misuse([named(A, placed(2)), named(B, SHIPPED)], "other content"),
    "another type": Misuse([named(A, SHIPPED), named(B, SHIPPED)], "other content"),
}


@pytest.mark.origin("KurrentDB")
@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
@pytest.mark.parametrize("expected", [3, NO_STREAM, ANY], ids=str)
async def test_used_ids_for_anything_else_are_refused(
    with_three: EventStore, misuse: Misuse, expected: int | ExpectedVersion
) -> None:
    before = await with_three.read_stream("order-1").to_list()

    with pytest.raises(IdempotencyError) as raised:
        await with_three.append("order-1", misuse.events, expected_version=expected)

    error = raised.value
    assert misuse.problem in error.problem
    assert (error.stream_id, error.event_ids) == ("order-1", tuple(event.event_id for event in misuse.events))
    assert not error.retryable
    assert await with_three.read_stream("order-1").to_list() == before


async def test_what_was_appended_apart_can_be_repeated_together(with_three: EventStore) -> None:
    again = await with_three.append("order-1", [named(B, SHIPPED), named(C)], expected_version=ANY)

    assert (again.repeated, again.first_version, again.stream_version) == (True, 2, 3)


async def test_the_same_id_in_another_stream_is_another_event(with_three: EventStore) -> None:
    result = await with_three.append("order-2", [named(A, SHIPPED)], expected_version=NO_STREAM)

    assert not result.repeated
    assert len(await with_three.read_all().to_list()) == 4


@pytest.mark.origin("KurrentDB")
async def test_two_equal_ids_in_one_append_are_refused(any_store: EventStore) -> None:
    with pytest.raises(InvalidArgumentError, match="event_id"):
        await any_store.append("order-1", [named(A), named(A)], expected_version=NO_STREAM)
    assert await any_store.read_all().to_list() == []


async def test_an_id_generator_that_repeats_itself_is_an_idempotency_error(any_store: EventStore) -> None:
    """Ids that nobody chose are not looked up on the way in; the unique index finds them."""
    any_store.codec._new_id = lambda: A
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(IdempotencyError):
        await any_store.append("order-1", [placed(2)], expected_version=1)
    with pytest.raises(IdempotencyError):
        await any_store.append("order-2", [placed(1), placed(2)], expected_version=NO_STREAM)
    assert len(await any_store.read_all().to_list()) == 1


async def test_a_repetition_inside_a_transaction_returns_the_original_result(with_three: EventStore) -> None:
    async with with_three.transaction() as tx:
        again = await tx.append("order-1", [named(C)], expected_version=2)
        with pytest.raises(IdempotencyError):
            await tx.append("order-1", [named(C, SHIPPED)], expected_version=2)
        more = await tx.append("order-1", [named(D)], expected_version=3)

    assert (again.repeated, again.stream_version) == (True, 3)
    assert (more.repeated, more.stream_version) == (False, 4)
