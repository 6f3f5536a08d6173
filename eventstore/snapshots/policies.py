"""When a stream is due for a new snapshot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    from datetime import timedelta

    from pydantic import BaseModel


@dataclass(frozen=True, slots=True)
class Lag:
    """How a stream stands against its latest snapshot.

    Attributes:
        events: Events behind the snapshot, or all of them when there is none.
        age: How long the snapshot lies behind the last event; None when there is none.
        models: The models of the events that have just arrived.
        load_seconds: How long the last load in this process took; 0 when none was noticed.
    """

    events: int
    age: timedelta | None = None
    models: frozenset[type[BaseModel]] = frozenset()
    load_seconds: float = 0.0


Policy = Callable[[Lag], bool]
"""Decides whether a stream that stands so is due."""


def every(events: int) -> Policy:
    """Take a snapshot when this many events lie behind the last one.

    Raises:
        ConfigurationError: The number is below 1.
    """
    if events < 1:
        raise ConfigurationError(f"every() counts events from 1, not {events}")
    return lambda lag: lag.events >= events


def after(age: timedelta) -> Policy:
    """Take a snapshot when an event arrives and the last snapshot is older than this (or there is none)."""
    return lambda lag: lag.events > 0 and (lag.age is None or lag.age >= age)


def on_event(*models: type[BaseModel]) -> Policy:
    """Take a snapshot when one of these events arrives: the one that closes a chapter, for example."""
    return lambda lag: not lag.models.isdisjoint(models)


def slower_than(seconds: float) -> Policy:
    """Take a snapshot when loading an aggregate in this process took longer than this."""
    return lambda lag: lag.load_seconds > seconds


def any_of(*policies: Policy) -> Policy:
    """Take a snapshot when one of these policies says so."""
    return lambda lag: any(policy(lag) for policy in policies)
