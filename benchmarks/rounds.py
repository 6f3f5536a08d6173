"""Rounds: every subject once a round, in an order drawn anew for each, so that drift meets all alike."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.results import Samples

Subject = Callable[[], Awaitable[float]]
"""Does the work once and returns the figure."""


async def interleave(
    subjects: Mapping[str, Subject],
    *,
    rounds: int,
    chance: random.Random,
    warm_up: bool = True,
    tell: Callable[[str], None] = lambda _: None,
    give_up: Mapping[type[Exception], Callable[[str, Exception], None]] = MappingProxyType({}),
) -> Samples:
    """Run each subject once to warm up, which does not count, and then once in each round.

    Args:
        subjects: What is run, by name.
        rounds: How many rounds count.
        chance: Draws the order of each round.
        warm_up: Whether there is a round before them.
        tell: Hears what is run next.
        give_up: Exceptions after which a subject is left out with all its figures, and who hears of it.
    """
    subjects = dict(subjects)
    samples: Samples = {name: [] for name in subjects}
    for number in range(0 if warm_up else 1, rounds + 1):
        order = list(subjects)
        chance.shuffle(order)
        for name in order:
            tell(f"{'warm-up' if number == 0 else f'round {number} of {rounds}'}: {name}")
            try:
                figure = await subjects[name]()
            except tuple(give_up) as error:
                give_up[type(error)](name, error)
                del subjects[name], samples[name]
                continue
            if number > 0:
                samples[name].append(figure)
    return samples
