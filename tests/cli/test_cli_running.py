"""Coroutines under signals."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading

import pytest

from eventstore.cli.errors import Interrupted
from eventstore.cli.running import run, run_until_stopped

STUBBORN = """
import asyncio
from eventstore.cli.running import run_until_stopped

async def work():
    print("ready", flush=True)
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        await asyncio.Event().wait()

run_until_stopped(work())
"""


async def signalled() -> None:
    signal.raise_signal(signal.SIGTERM)
    await asyncio.Event().wait()


def test_a_signal_interrupts_work_that_has_an_end() -> None:
    with pytest.raises(Interrupted):
        run(signalled())


def test_a_signal_is_the_end_of_work_that_has_none() -> None:
    run_until_stopped(signalled())


def test_the_handlers_that_were_there_before_are_there_again() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    interrupts = signal.getsignal(signal.SIGINT)  # ignored, where a shell has begun the tests in the background
    try:
        run_until_stopped(signalled())
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is interrupts
    finally:
        signal.signal(signal.SIGTERM, before)


def test_what_the_work_raises_and_returns_gets_through() -> None:
    async def returning() -> int:
        return 7

    async def raising() -> None:
        raise KeyError

    assert run(returning()) == 7
    with pytest.raises(KeyError):
        run_until_stopped(raising())


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    results: list[int] = []

    async def returning() -> int:
        return 7

    thread = threading.Thread(target=lambda: results.append(run(returning())))
    thread.start()
    thread.join()

    assert results == [7]


def test_a_second_signal_ends_work_that_does_not_stop() -> None:
    with subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - ours
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "cancelled\n"
        process.send_signal(signal.SIGTERM)

        assert process.wait() == 128 + signal.SIGTERM
        watchdog.cancel()
