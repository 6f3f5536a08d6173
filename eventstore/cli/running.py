"""Running coroutines under signals: the command line alone touches them.

    first SIGINT or SIGTERM   the work is cancelled and cleans up
    second one                the process ends at once

Workers are coroutines that know nothing of it: they are cancelled like any other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

from eventstore.cli.errors import Interrupted

T = TypeVar("T")

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that comes to an end by itself.

    Raises:
        Interrupted: A signal came first.
    """
    return asyncio.run(_supervised(work))


def run_until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that a signal is meant to end: that is then a success."""
    try:
        asyncio.run(_supervised(work))
    except Interrupted:
        return


async def _supervised(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    received: list[int] = []

    def stop(number: int) -> None:
        if received:
            os._exit(128 + number)
        received.append(number)
        task.cancel()

    loop = asyncio.get_running_loop()
    handled = STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    before = {number: signal.getsignal(number) for number in handled}
    for number in handled:
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if received:
            raise Interrupted from None
        raise
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
