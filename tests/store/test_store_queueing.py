"""The queue of a group commit and its back-pressure, without a database."""

from __future__ import annotations

import asyncio
import weakref
from collections import defaultdict
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eventstore.lifecycle import Budget
from eventstore.store import AppendRequest
from eventstore.store.queueing import BATCH_APPENDS, BATCH_BYTES, AppendQueue, Pending


class Answer:
    """As much of a future as the queue looks at."""

    def __init__(self) -> None:
        self.is_done = False

    def done(self) -> bool:
        return self.is_done


class Event:
    def __init__(self, size: int) -> None:
        self.data = "x" * size
        self.metadata = None


def pending(stream: str, *, look_up_ids: bool = False, size: int = 10) -> Pending:
    request = AppendRequest(stream, 0, 0, cast("Any", [Event(size)]), look_up_ids)
    return Pending(request, cast("Any", Answer()))


def leave(one: Pending) -> None:
    """Have the caller of an append go away."""
    cast("Any", one.answer).is_done = True


class World:
    """A queue and what became of the appends that were put into it."""

    def __init__(self) -> None:
        self.queue = AppendQueue()
        self.came: dict[str, list[Pending]] = defaultdict(list)
        self.went: dict[str, list[Pending]] = defaultdict(list)
        self.closed: dict[str, list[Pending]] = {}

    def put(self, stream: str, *, look_up_ids: bool) -> None:
        one = pending(stream, look_up_ids=look_up_ids)
        self.came[stream].append(one)
        self.queue.put(one)

    def take(self, streams: int, **_: bool) -> None:
        batch = self.queue.take(streams)
        names = [one.request.stream_id for one in batch]
        assert len(set(names)) <= streams
        assert not self.closed.keys() & set(names)
        for one in batch:
            stream = one.request.stream_id
            self.closed.setdefault(stream, []).append(one)
            self.went[stream].append(one)
            assert not one.request.look_up_ids or names.count(stream) == 1

    def open(self, which: int, *, busy: bool) -> None:
        if not self.closed:
            return
        stream = sorted(self.closed)[which % len(self.closed)]
        taken = self.closed.pop(stream)
        if busy:  # they go back to their place
            del self.went[stream][-len(taken) :]
            self.queue.put_back(stream, taken)
        self.queue.open(stream)

    def leave(self, which: int, **_: bool) -> None:
        waiting = [one for stream in self.came for one in self.came[stream] if one not in self.went[stream]]
        if waiting:
            one = waiting[which % len(waiting)]
            leave(one)
            if which % 2:  # the others are noticed when their turn comes
                self.queue.leave(one)

    def finish(self) -> None:
        while self.closed or self.queue.ready:
            self.open(0, busy=False)
            self.take(3)


STEPS: st.SearchStrategy[tuple[str, Any, dict[str, bool]]] = st.one_of(
    st.tuples(st.just("put"), st.sampled_from("abcd"), st.booleans().map(lambda flag: {"look_up_ids": flag})),
    st.tuples(st.just("take"), st.integers(1, 5), st.just({})),
    st.tuples(st.just("open"), st.integers(0, 9), st.booleans().map(lambda flag: {"busy": flag})),
    st.tuples(st.just("leave"), st.integers(0, 99), st.just({})),
)


@given(st.lists(STEPS, max_size=60))
def test_each_append_goes_out_once_in_the_order_of_its_stream_and_never_beside_another_of_it(
    steps: list[tuple[str, Any, dict[str, bool]]],
) -> None:
    world = World()
    for what, argument, flags in steps:
        getattr(world, what)(argument, **flags)
    world.finish()

    for stream, ones in world.came.items():
        went = world.went[stream]
        assert went == [one for one in ones if not one.answer.done() or one in went]


def test_a_batch_has_its_limits_and_nothing_is_left_behind() -> None:
    queue = AppendQueue()
    for _ in range(2 * BATCH_APPENDS + 10):
        queue.put(pending("hot"))
    sizes = []
    while batch := queue.take(1):
        sizes.append(len(batch))
        queue.open("hot")

    assert sizes == [BATCH_APPENDS, BATCH_APPENDS, 10]


def test_large_appends_go_apart_and_one_that_is_too_large_for_any_batch_goes_alone() -> None:
    queue = AppendQueue()
    for number, size in enumerate((10, BATCH_BYTES // 2, BATCH_BYTES // 2, 3 * BATCH_BYTES, 10)):
        queue.put(pending(f"s{number}", size=size))
    batches = []
    while batch := queue.take(10):
        batches.append([one.request.stream_id for one in batch])

    assert batches == [["s0", "s1"], ["s2"], ["s3"], ["s4"]]


@pytest.mark.parametrize("is_closed", [False, True])
def test_who_leaves_takes_its_payload_along_and_the_others_keep_their_order(*, is_closed: bool) -> None:
    queue = AppendQueue()
    ones = [pending("s") for _ in range(4)]
    queue.put(ones[0])
    if is_closed:
        assert queue.take(1) == ones[:1]
    for one in ones[1:]:
        queue.put(one)
    payload = weakref.ref(ones[2].request.events[0])
    leave(ones[2])
    queue.leave(ones.pop(2))
    del one

    assert payload() is None
    if is_closed:
        queue.open("s")
    assert queue.take(1) == ones[is_closed:]


def test_a_stream_that_everybody_has_left_is_no_longer_waiting() -> None:
    queue = AppendQueue()
    one = pending("s")
    queue.put(one)
    queue.leave(one)

    assert queue.ready == 0
    queue.leave(one)  # once more changes nothing


def test_who_left_while_its_stream_was_held_is_not_put_back() -> None:
    queue = AppendQueue()
    ones = [pending("s") for _ in range(3)]
    for one in ones:
        queue.put(one)
    queue.take(1)
    leave(ones[1])
    queue.put_back("s", ones)
    queue.open("s")

    assert queue.take(1) == [ones[0], ones[2]]


# --- back-pressure ---------------------------------------------------------------------------------------------------


async def test_who_finds_too_little_left_waits_first_come_first_served() -> None:
    budget, got = Budget(10), []

    async def take(name: str, amount: int) -> None:
        await budget.take(amount)
        got.append(name)

    await take("first", 8)
    waiting = [asyncio.create_task(take(name, amount)) for name, amount in (("large", 6), ("small", 1))]
    await asyncio.sleep(0)
    assert not budget.take_now(1)
    assert got == ["first"]
    budget.give(8)
    await asyncio.gather(*waiting)

    assert got == ["first", "large", "small"]


async def test_who_comes_before_the_first_in_line_has_woken_up_is_behind_it() -> None:
    budget, got = Budget(10), []

    async def take(name: str) -> None:
        if not budget.take_now(1):
            await budget.take(1)
        got.append(name)

    await budget.take(10)
    first = asyncio.create_task(take("first"))
    await asyncio.sleep(0)
    budget.give(10)  # to the first one, which runs in the next turn of the loop
    await take("second")
    await first

    assert got == ["first", "second"]
    assert budget.take_now(8)


async def test_more_than_there_is_waits_for_all_of_it() -> None:
    budget = Budget(10)
    await budget.take(3)
    waiting = asyncio.create_task(budget.take(1000))
    await asyncio.sleep(0)
    assert not waiting.done()
    budget.give(3)
    await waiting
    assert not budget.take_now(1)
    budget.give(1000)
    assert budget.take_now(10)


@pytest.mark.parametrize("granted_meanwhile", [False, True])
async def test_who_is_cancelled_while_waiting_takes_nothing_and_holds_nobody_up(*, granted_meanwhile: bool) -> None:
    budget = Budget(10)
    await budget.take(10)
    gone = asyncio.create_task(budget.take(10))
    behind = asyncio.create_task(budget.take(2))
    await asyncio.sleep(0)
    if granted_meanwhile:
        budget.give(10)
        gone.cancel()
    else:
        gone.cancel()
        await asyncio.sleep(0)
        budget.give(10)
    await asyncio.gather(gone, behind, return_exceptions=True)

    assert gone.cancelled()
    assert behind.done()
    assert budget.take_now(8)
