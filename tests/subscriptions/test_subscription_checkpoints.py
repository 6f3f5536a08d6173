"""A checkpoint moves by compare-and-set only, and is held against the log."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from eventstore import NO_STREAM, EventStore, NewEvent
from eventstore.errors import LeaseLostError, LogMismatchError
from eventstore.subscriptions import Checkpoint, Checkpoints
from eventstore.subscriptions.checkpoints import require_on_log
from fixtures.shop import placed

A = Checkpoint(1, uuid.uuid4(), 1)
B = Checkpoint(2, uuid.uuid4(), 1)
C = Checkpoint(3, uuid.uuid4(), 1)


@pytest.fixture
async def checkpoints(store: EventStore) -> Checkpoints:
    """The checkpoints of a store whose log has the events of A, B and C."""
    events = [NewEvent(placed(), event_id=one.event_id) for one in (A, B, C)]
    await store.append("order-1", events, expected_version=NO_STREAM)
    return Checkpoints(store.database)


async def test_a_reader_begins_at_the_start(checkpoints: Checkpoints) -> None:
    assert await checkpoints.load("r") == Checkpoint(0, None, 0)
    assert await checkpoints.list() == []


async def test_it_comes_back_as_it_was_left(checkpoints: Checkpoints) -> None:
    await checkpoints.advance("r", since=Checkpoint(), to=A)
    await checkpoints.advance("r", since=A, to=B)

    assert await checkpoints.load("r") == B
    assert [(name, kept) for name, kept, _ in await checkpoints.list()] == [("r", B)]


@pytest.mark.parametrize("since", [Checkpoint(), B, C], ids=["behind", "ahead", "far ahead"])
async def test_a_reader_that_is_elsewhere_does_not_move_it(checkpoints: Checkpoints, since: Checkpoint) -> None:
    await checkpoints.advance("r", since=Checkpoint(), to=A)

    with pytest.raises(LeaseLostError, match="'r'"):
        await checkpoints.advance("r", since=since, to=C)

    assert await checkpoints.load("r") == A


async def test_a_reader_whose_checkpoint_is_gone_does_not_make_it_again(checkpoints: Checkpoints) -> None:
    with pytest.raises(LeaseLostError):
        await checkpoints.advance("r", since=A, to=B)

    assert await checkpoints.load("r") == Checkpoint()


async def test_an_earlier_epoch_does_not_move_it(checkpoints: Checkpoints) -> None:
    later = Checkpoint(A.position, A.event_id, 5)
    await checkpoints.advance("r", since=Checkpoint(), to=later)

    with pytest.raises(LeaseLostError):
        await checkpoints.advance("r", since=later, to=B)
    await checkpoints.advance("r", since=A, to=Checkpoint(2, B.event_id, 6))

    assert await checkpoints.load("r") == Checkpoint(2, B.event_id, 6)


async def test_it_does_not_move_to_an_event_that_is_not_on_the_log_where_it_is_kept(checkpoints: Checkpoints) -> None:
    """A batch was read from a server, and is applied on another one: a failover has lost the batch's events."""
    lost = Checkpoint(B.position, uuid.uuid4(), B.epoch)
    with pytest.raises(LeaseLostError):
        await checkpoints.advance("r", since=Checkpoint(), to=lost)
    await checkpoints.advance("r", since=Checkpoint(), to=A)
    for move in (checkpoints.advance("r", since=A, to=lost), checkpoints.move("r", lost)):
        with pytest.raises(LeaseLostError):
            await move

    assert await checkpoints.load("r") == A


async def test_of_many_that_move_it_at_once_one_does(checkpoints: Checkpoints) -> None:
    await checkpoints.advance("r", since=Checkpoint(), to=A)
    moves = await asyncio.gather(*(checkpoints.advance("r", since=A, to=B) for _ in range(6)), return_exceptions=True)

    assert sum(move is None for move in moves) == 1
    assert all(move is None or isinstance(move, LeaseLostError) for move in moves)


async def test_of_many_that_make_it_at_once_one_does(checkpoints: Checkpoints) -> None:
    moves = await asyncio.gather(
        *(checkpoints.advance("r", since=Checkpoint(), to=A) for _ in range(6)), return_exceptions=True
    )

    assert sum(move is None for move in moves) == 1


async def test_it_moves_with_the_transaction_or_not_at_all(store: EventStore, checkpoints: Checkpoints) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.database.transaction() as session:
            await Checkpoints(session).advance("r", since=Checkpoint(), to=A)
            raise ZeroDivisionError

    assert await checkpoints.load("r") == Checkpoint()


async def test_a_renamed_one_takes_the_place_of_the_other(checkpoints: Checkpoints) -> None:
    await checkpoints.advance("r", since=Checkpoint(), to=A)
    await checkpoints.advance("next", since=Checkpoint(), to=B)

    await checkpoints.rename("next", "r")

    assert [(name, kept) for name, kept, _ in await checkpoints.list()] == [("r", B)]


async def test_a_deleted_one_is_at_the_start_again(checkpoints: Checkpoints) -> None:
    await checkpoints.advance("r", since=Checkpoint(), to=A)
    await checkpoints.delete("r")

    assert await checkpoints.load("r") == Checkpoint()


async def test_it_is_held_against_the_log(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=NO_STREAM)
    (event,) = await any_store.read_all().to_list()
    position = int(str(event.position))

    await require_on_log(any_store.log, "r", Checkpoint())
    await require_on_log(any_store.log, "r", Checkpoint(position, event.event_id))
    for wrong in (Checkpoint(position, uuid.uuid4()), Checkpoint(position + 1, event.event_id)):
        with pytest.raises(LogMismatchError, match=f"position {wrong.position}"):
            await require_on_log(any_store.log, "r", wrong)
