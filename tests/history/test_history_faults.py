"""Whatever is wrong on purpose, the checker finds it: none of the campaigns passes because it cannot fail."""

from __future__ import annotations

import itertools
import random

import pytest

from fixtures.history.checker import check
from fixtures.history.conductor import conducting, some_schedules
from fixtures.history.faults import FAULTS
from fixtures.history.model import Verdict

SCHEDULES = 2000
"""So many at most; most faults show within the first fifty."""


@pytest.mark.parametrize("name", FAULTS)
async def test_the_checker_fails_a_build_that_is_wrong_in_one_thing(dsn: str, name: str) -> None:
    fault = FAULTS[name]
    found: set[Verdict] = set()
    async with conducting(
        dsn, edits=fault.edits, gates=fault.gates, make_follower=fault.make_follower
    ) as conductor:
        for schedule in itertools.islice(some_schedules(3, random.Random(4)), SCHEDULES):
            found |= {finding.verdict for finding in check(await conductor.play(schedule, fault.scene))}
            if fault.verdict in found:
                print(conductor._numbers)
                break

    assert fault.verdict in found
