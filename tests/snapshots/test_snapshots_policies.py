"""Policies: how a stream must stand to be due."""

from __future__ import annotations

from datetime import timedelta

import pytest
from pydantic import BaseModel

from eventstore import after, any_of, every, on_event, slower_than
from eventstore.errors import ConfigurationError
from eventstore.snapshots import Lag, Policy
from fixtures.shop import OrderPlaced, OrderShipped

HOUR = timedelta(hours=1)
PLACED: frozenset[type[BaseModel]] = frozenset({OrderPlaced})
BOTH: frozenset[type[BaseModel]] = frozenset({OrderPlaced, OrderShipped})


@pytest.mark.parametrize(
    ("policy", "lag", "due"),
    [
        (every(10), Lag(9), False),
        (every(10), Lag(10), True),
        (every(1), Lag(0), False),
        (after(HOUR), Lag(1, HOUR - timedelta(seconds=1)), False),
        (after(HOUR), Lag(1, HOUR), True),
        (after(HOUR), Lag(1, None), True),
        (after(HOUR), Lag(0, HOUR), False),
        (on_event(OrderShipped), Lag(1, models=PLACED), False),
        (on_event(OrderShipped), Lag(2, models=BOTH), True),
        (on_event(OrderShipped), Lag(99), False),
        (slower_than(0.1), Lag(0, load_seconds=0.1), False),
        (slower_than(0.1), Lag(0, load_seconds=0.11), True),
        (any_of(every(10), on_event(OrderShipped)), Lag(9, models=PLACED), False),
        (any_of(every(10), on_event(OrderShipped)), Lag(10, models=PLACED), True),
        (any_of(every(10), on_event(OrderShipped)), Lag(2, models=BOTH), True),
        (any_of(), Lag(1_000_000), False),
    ],
)
def test_a_stream_is_due_exactly_when_its_policy_says_so(policy: Policy, lag: Lag, *, due: bool) -> None:
    assert policy(lag) is due


@pytest.mark.parametrize("events", [0, -1])
def test_every_counts_from_one(events: int) -> None:
    with pytest.raises(ConfigurationError, match="counts events from 1"):
        every(events)
