"""Every order in which two writers and a reader can take their steps: nothing is lost, doubled, skipped or stale.

    make campaign            the long form: all 34,650 orders of each scene, and 20,000 orders of three writers
    make test                the quick form: a sample of each

A writer's steps are: lock and check, announce, insert, commit; a reader's: read the sequence, read the locks, read the
events, advance. See docs/design/history-checker.md.
"""

from __future__ import annotations

import itertools
import random

import pytest

from fixtures.history.conductor import (
    ONE_STREAM,
    TWO_STREAMS,
    Scene,
    conducting,
    every_schedule,
    some_schedules,
)
from fixtures.history.judging import Judge, announced_seed

ALL_OF_TWO = 34_650
SOME_OF_THREE = 20_000

SCENES = {
    "one stream": ONE_STREAM,
    "two streams": TWO_STREAMS,
    "one stream, both expect it to be new": Scene(one_stream=True, expected=(0,)),
    "two streams, one writer rolls back": Scene(one_stream=False, keep=(False, True)),
    "one stream, one writer rolls back": Scene(one_stream=True, keep=(False, True)),
    "one stream that is there, single events": Scene(one_stream=True, events=(1,), is_begun=True),
    "two streams that are there, single events": Scene(one_stream=False, events=(1,), is_begun=True),
    "one stream that is there, both expect it as it is": Scene(
        one_stream=True, expected=(1,), events=(1,), is_begun=True
    ),
    "one stream that is there, nobody waits for it": Scene(one_stream=True, is_begun=True, wait=False),
    "one stream that is there, single events, nobody waits for it": Scene(
        one_stream=True, events=(1,), is_begun=True, wait=False
    ),
}


@pytest.mark.parametrize("name", SCENES)
async def test_every_interleaving_of_two_writers_and_a_reader_is_correct(
    dsn: str, pytestconfig: pytest.Config, name: str
) -> None:
    judge = Judge()
    schedules = every_schedule(3)
    if not pytestconfig.getoption("campaign"):
        schedules = itertools.islice(some_schedules(3, random.Random(announced_seed())), 300)
    async with conducting(dsn) as conductor:
        for schedule in schedules:
            judge.accept(schedule, await conductor.play(schedule, SCENES[name]))
    judge.report(name)
    assert judge.counts["histories"] in {300, ALL_OF_TWO}


@pytest.mark.parametrize("name", ["one stream", "two streams"])
async def test_interleavings_of_three_writers_and_a_reader_are_correct(
    dsn: str, pytestconfig: pytest.Config, name: str
) -> None:
    judge = Judge()
    many = SOME_OF_THREE if pytestconfig.getoption("campaign") else 100
    chance = random.Random(announced_seed())
    async with conducting(dsn, writers=3) as conductor:
        for schedule in itertools.islice(some_schedules(4, chance), many):
            judge.accept(schedule, await conductor.play(schedule, SCENES[name]))
    judge.report(f"three writers, {name}")


async def test_interleavings_on_a_sequence_that_was_never_called_are_correct(
    dsn: str, pytestconfig: pytest.Config
) -> None:
    judge = Judge()
    many = 2_000 if pytestconfig.getoption("campaign") else 100
    chance = random.Random(announced_seed())
    async with conducting(dsn) as conductor:
        for schedule in itertools.islice(some_schedules(3, chance), many):
            scene = Scene(one_stream=chance.random() < 0.5, expected=(0,), never_called=True)
            judge.accept(schedule, await conductor.play(schedule, scene))
    judge.report("never-called sequence")


async def test_interleavings_of_two_writers_that_begin_one_stream_are_correct(
    dsn: str, pytestconfig: pytest.Config
) -> None:
    """Both have looked for the stream's row, and found none, before either makes it."""
    judge = Judge()
    many = 5_000 if pytestconfig.getoption("campaign") else 100
    chance = random.Random(announced_seed())
    async with conducting(dsn, gates=("begin_streams", "insert")) as conductor:
        for schedule in itertools.islice(some_schedules(3, chance), many):
            judge.accept(schedule, await conductor.play(schedule, ONE_STREAM))
    judge.report("two writers begin one stream")
