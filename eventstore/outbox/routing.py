"""Routing: to which topic an event goes, by its category, by its type, or by a function.

The key is always the stream, so a stream's events that go to one topic go to one partition of it, in order. Order
holds within a topic and partition, and nowhere else: a route that looks at the event's type sends a stream's events to
several topics, and who reads two of them may see a later event first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias


class Route(NamedTuple):
    """What a topic may follow from; nothing of the payload, so that a change of data never moves a stream.

    Attributes:
        category: The category of the event's stream.
        event_type: The registered name of its type.
    """

    category: str
    event_type: str


@dataclass(frozen=True, slots=True)
class ByType:
    """A topic for each event type. Made by `by_type`."""

    names: Mapping[str, str]

    def topic_of(self, route: Route) -> str:
        """Return the topic's name, before any prefix."""
        return self.names.get(route.event_type, route.event_type)


@dataclass(frozen=True, slots=True)
class ByFunction:
    """A topic from a function. Made by `by_function`."""

    function: Callable[[Route], str]
    topics: tuple[str, ...]

    def topic_of(self, route: Route) -> str:
        """Return the topic's name, before any prefix."""
        return self.function(route)


Topic: TypeAlias = str | Callable[[str], str] | ByType | ByFunction


def by_type(names: Mapping[str, str] | None = None) -> ByType:
    """Send each event to the topic of its type: `Publisher("orders", topic=by_type({"OrderPlaced": "placed"}))`.

    Args:
        names: The topics of event types; types that are not in it have topics of their own names.
    """
    return ByType(dict(names or {}))


def by_function(function: Callable[[Route], str], *, topics: Sequence[str] = ()) -> ByFunction:
    """Send each event where a function says, from its category and its type.

    It is asked once for each stream and type in a while, so it must always give the same answer.

    Args:
        function: Returns the topic's name.
        topics: The names that it can return, to have those topics before the first event; others are made as they come.
    """
    return ByFunction(function, tuple(topics))
