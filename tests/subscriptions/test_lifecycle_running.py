"""Work in the background of a block: what fails leaves it by itself, also when several things fail together."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from eventstore.errors import ConfigurationError, LeaseLostError, UnavailableError
from eventstore.lifecycle import running


async def fails(error: Exception) -> None:
    raise error


async def test_what_the_background_fails_with_ends_the_block() -> None:
    with pytest.raises(LeaseLostError):
        async with running(fails(LeaseLostError("one"))):
            await asyncio.Event().wait()


async def test_a_lease_that_is_lost_together_with_what_is_done_under_it_is_one_typed_error() -> None:
    """Else a worker that was frozen past its lease would end with a group that nobody catches."""
    with pytest.raises(LeaseLostError):
        async with running(fails(LeaseLostError("one"))):
            try:
                await asyncio.Event().wait()
            finally:
                raise UnavailableError("the block fails while it is cancelled")


async def test_what_no_retry_can_mend_is_what_is_heard() -> None:
    with pytest.raises(ConfigurationError):
        async with running(fails(UnavailableError("one")), fails(ConfigurationError("the other"))):
            await asyncio.Event().wait()


async def test_of_several_that_no_retry_can_mend_none_is_left_out() -> None:
    with pytest.raises(ExceptionGroup) as raised:
        async with running(fails(ConfigurationError("one")), fails(ValueError("the other"))):
            await asyncio.Event().wait()
    assert {type(error) for error in raised.value.exceptions} == {ConfigurationError, ValueError}


async def test_who_is_cancelled_ends_whatever_else_fails_meanwhile() -> None:
    """Else who tries again what a retry can mend goes on for ever, though it was told to stop."""
    cleaning_up, at_work = asyncio.Event(), asyncio.Event()

    async def loses_its_lease() -> None:
        await cleaning_up.wait()
        raise LeaseLostError("one")

    async def works() -> None:
        for _ in range(2):
            with suppress(LeaseLostError):
                async with running(loses_its_lease()):
                    try:
                        at_work.set()
                        await asyncio.Event().wait()
                    finally:
                        cleaning_up.set()
                        await asyncio.Event().wait()  # until the lost lease cuts the cleaning up short

    task = asyncio.create_task(works())
    await at_work.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=1)
    assert task.cancelled()
