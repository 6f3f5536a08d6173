"""Random schedules through the public API, with aborts, transactions, delays, cancelled callers and cut connections.

make campaign            the long form: 10,000 schedules
make test                the quick form: 300 schedules
"""

from __future__ import annotations

import pytest

from fixtures.history.chance import play_random, random_bench
from fixtures.history.judging import Judge, announced_seed


async def test_random_schedules_through_the_public_api_are_correct(dsn: str, pytestconfig: pytest.Config) -> None:
    judge = Judge()
    seed = announced_seed()
    async with random_bench(dsn) as bench:
        for number in range(10_000 if pytestconfig.getoption("campaign") else 300):
            judge.accept(f"schedule {number}", await play_random(bench, number, seed))
    judge.report("random schedules")
