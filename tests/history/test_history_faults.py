"""Whatever is wrong on purpose, the checker finds it: no campaign passes because it cannot fail."""

from __future__ import annotations

import itertools
import random

import pytest

from eventstore.subscriptions import LogFollower
from fixtures.history.chance import play_random, random_bench
from fixtures.history.conductor import conducting, some_schedules
from fixtures.history.faults import FAULTS, BoundFollower, FailsNeighbours, QuietFollower, naive_follower
from fixtures.history.judging import Judge, verdicts
from fixtures.history.model import Verdict
from fixtures.history.recording import MakeFollower

MOST = 2000
"""So many schedules at most; most faults show within the first fifty."""


@pytest.mark.parametrize("name", FAULTS)
async def test_the_checker_fails_a_build_that_is_wrong_in_one_thing(dsn: str, name: str) -> None:
    fault = FAULTS[name]
    found: set[Verdict] = set()
    async with conducting(dsn, edits=fault.edits, gates=fault.gates, make_follower=fault.make_follower) as conductor:
        for schedule in itertools.islice(some_schedules(3, random.Random(4)), MOST):
            found |= verdicts(await conductor.play(schedule, fault.scene))
            if fault.verdict in found:
                break

    assert fault.verdict in found


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.edits])
async def test_the_checker_passes_the_true_build_under_the_same_schedules(dsn: str, name: str) -> None:
    """So it is the edit that it finds, not the gates or the scene."""
    fault = FAULTS[name]
    follower = BoundFollower if fault.make_follower is BoundFollower else LogFollower
    async with conducting(dsn, gates=fault.gates, make_follower=follower) as conductor:
        for schedule in itertools.islice(some_schedules(3, random.Random(4)), 100):
            Judge().accept(schedule, await conductor.play(schedule, fault.scene))


async def test_the_checker_fails_a_batch_that_fails_its_neighbours(dsn: str) -> None:
    found: set[Verdict] = set()
    async with random_bench(dsn) as bench:
        bench.store._appender = FailsNeighbours(bench.store)
        for number in range(100):  # every third schedule shows it, so that thirty were hardly enough
            found |= verdicts(await play_random(bench, number, seed=1))
            if Verdict.NO_CAUSE in found:
                break

    assert Verdict.NO_CAUSE in found


@pytest.mark.parametrize(
    ("make_follower", "verdict"), [(naive_follower, Verdict.SKIPPED), (QuietFollower, Verdict.STALE)]
)
async def test_random_schedules_show_a_wrong_reader(dsn: str, make_follower: MakeFollower, verdict: Verdict) -> None:
    found: set[Verdict] = set()
    async with random_bench(dsn, make_follower) as bench:
        for number in range(300):
            found |= verdicts(await play_random(bench, number, seed=1))
            if verdict in found:
                break

    assert verdict in found
