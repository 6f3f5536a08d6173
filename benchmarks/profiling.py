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
    """Run our subjects of a row under the profiler and return where they spent their own time.

    A coroutine that waits takes no time here: only what this process computes is counted, and `poll` is idleness.
    """
    profile = cProfile.Profile()
    await measure(replace(context, profile=profile))
    text = io.StringIO()
    pstats.Stats(profile, stream=text).sort_stats("tottime").print_stats(_TOP)
    return text.getvalue()
