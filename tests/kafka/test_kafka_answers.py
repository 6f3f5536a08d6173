"""Answers: what Kafka fails with, in the framework's own terms; a retry is promised only where one can help."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import errors

from eventstore.errors import ConfigurationError, UnavailableError
from eventstore.kafka.answers import answer, finished


async def failing(error: Exception) -> None:
    raise error


NOT_ALLOWED = [
    errors.TopicAuthorizationFailedError,
    errors.GroupAuthorizationFailedError,
    errors.ClusterAuthorizationFailedError,
    errors.TransactionalIdAuthorizationFailed,
    errors.SaslAuthenticationFailed,
    errors.AuthenticationFailedError,
]


@pytest.mark.parametrize("kind", NOT_ALLOWED)
async def test_what_the_broker_does_not_allow_is_said_once_and_not_tried_again(kind: type[Exception]) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} .writing") as refused:
        await answer(failing(kind("alice")), "writing", 5)
    assert not refused.value.retryable
    assert "alice" not in str(refused.value)


REFUSED_WAITS = [errors.InvalidSessionTimeoutError, errors.InvalidTransactionTimeout]


@pytest.mark.parametrize("kind", REFUSED_WAITS)
async def test_a_wait_that_the_broker_refuses_is_said_with_its_bounds_and_not_tried_again(
    kind: type[Exception],
) -> None:
    with pytest.raises(ConfigurationError, match=r"must be .* the brokers' .*timeout.ms"):
        await answer(failing(kind()), "writing", 5)


OF_AIOKAFKA = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize(
    "kind", [*(kind for kind in OF_AIOKAFKA if kind not in NOT_ALLOWED + REFUSED_WAITS), AssertionError, OSError]
)
async def test_everything_else_may_go_well_the_next_time(kind: type[Exception]) -> None:
    with pytest.raises(UnavailableError, match=kind.__name__):
        await answer(failing(kind.__new__(kind)), "writing", 5)


async def test_a_transaction_may_finish_however_often_whoever_waits_for_it_is_cancelled() -> None:
    """A lost lease is noticed in several places at once, and each of them cancels."""
    may_end, done = asyncio.Event(), False

    async def transaction() -> None:
        nonlocal done
        await may_end.wait()
        done = True

    waiting = asyncio.create_task(finished(transaction(), within=30))
    for _ in range(3):
        await asyncio.sleep(0)
        waiting.cancel()
    await asyncio.sleep(0)
    assert not waiting.done()
    may_end.set()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert done
