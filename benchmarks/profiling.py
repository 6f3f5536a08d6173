"""Where the client's time goes: a row run under cProfile. Its figures mean little then, their order much."""

from __future__ import annotations

import cProfile
import io
import pstats
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from benchmarks.context import Context
    from benchmarks.results import Row

_TOP: Final = 40


async def profiled(measure: Callable[[Context], Awaitable[Row]], context: Context) -> str:
    """Run a row without peers and raw subjects and return the functions that took longest, by their own time.

    A coroutine that waits takes no time here: only what this process computes is counted.
    """
    only_ours = replace(context, rounds=1, only_ours=True)
    profile = cProfile.Profile()
    profile.enable()
    try:
        await measure(only_ours)
    finally:
        profile.disable()
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_TOP)
    return text.getvalue()
