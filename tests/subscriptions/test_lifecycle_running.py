"""Work in the background of a block: what fails leaves it by itself, also when several things fail together."""

from __future__ import annotations

import asyncio

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
