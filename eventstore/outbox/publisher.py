"""A publisher's declaration: which events leave the log, and under which topics. Inert: nothing here does I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Literal, get_args

from eventstore.errors import ConfigurationError, UnroutableEventError
from eventstore.outbox.groups import MAX_GROUPS, Group, publisher_checkpoint
from eventstore.outbox.routing import ByFunction, ByType, Route, Topic
from eventstore.topics import TOPIC_NAMES, is_topic_name

DEFAULT_PARTITIONS: Final = 8
DEFAULT_BATCH: Final = 4000
DEFAULT_MAX_PARKED: Final = 100
LARGEST_MAX_PARKED: Final = 1000
"""The parked streams are part of each cursor record, which must stay below what its topic accepts."""

OnFailure = Literal["halt", "park"]

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")


@dataclass(frozen=True, slots=True)
class Publisher:
    """Events of some categories, published each once and in the order of their streams.

    One topic a category by default, named like the category. Key and partition follow from the stream: within a topic,
    a stream's events stay in order. Nothing holds between topics, or between streams.

    Attributes:
        name: Names it for good: its cursor, its lease and its transactional id hang on it. Another name publishes
            everything again.
        categories: The categories to publish; all of them when left out.
        topic: Where events go: one topic's name, a function from category to topic, `by_type()`, or `by_function()`.
            The category when left out.
        topic_prefix: Written before the names of all its topics, the one of its cursor included, so that stores can
            share a cluster.
        partitions: Partitions of the topics that it creates. Their number cannot change later: streams would move to
            other partitions and lose their order.
        replication_factor: Copies of the topics that it creates; the cluster's default when left out.
        create_topics: Whether it creates missing topics; otherwise a missing one is an error.
        retention: How long the topics keep events; for ever when left out.
        batch: The most events published in one transaction.
        on_failure: What becomes of an event that cannot be sent, because it is larger than its topic accepts or has no
            topic: `halt` stops the publisher before it; `park` holds back the rest of its stream, and others go on.
        max_parked: How many streams may be parked, by each group; with one more it halts.
        groups: Into how many groups its work is split, so that as many processes can share it. Another number than it
            was created with is refused: `eventstore publisher regroup` changes it.
        source: The beginning of the CloudEvents source; `/eventstore/<name>` when left out.

    Raises:
        ConfigurationError: A value is not usable; the message says which, and what is.
    """

    name: str
    categories: Sequence[str] | None = field(default=None, kw_only=True)
    topic: Topic | None = field(default=None, kw_only=True)
    topic_prefix: str = field(default="", kw_only=True)
    partitions: int = field(default=DEFAULT_PARTITIONS, kw_only=True)
    replication_factor: int | None = field(default=None, kw_only=True)
    create_topics: bool = field(default=True, kw_only=True)
    retention: timedelta | None = field(default=None, kw_only=True)
    batch: int = field(default=DEFAULT_BATCH, kw_only=True)
    on_failure: OnFailure = field(default="halt", kw_only=True)
    max_parked: int = field(default=DEFAULT_MAX_PARKED, kw_only=True)
    groups: int = field(default=1, kw_only=True)
    source: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigurationError(
                f"a publisher's name has 1 to 100 letters, digits, '.', '_' or '-', not {self.name!r}"
            )
        if isinstance(self.categories, str):
            raise ConfigurationError(f"categories of {self.name!r} must be a list: [{self.categories!r}]")
        if self.categories is not None:
            object.__setattr__(self, "categories", tuple(self.categories))
        self._check_numbers()
        self._check_topics()

    def _check_numbers(self) -> None:
        for what, value, most in (
            ("partitions", self.partitions, None),
            ("batch", self.batch, None),
            ("max_parked", self.max_parked, LARGEST_MAX_PARKED),
            ("groups", self.groups, MAX_GROUPS),
        ):
            if value < 1 or (most is not None and value > most):
                range_ = "at least 1" if most is None else f"1 to {most}"
                raise ConfigurationError(f"{what} of publisher {self.name!r} must be {range_}, not {value}")
        if self.replication_factor is not None and self.replication_factor < 1:
            raise ConfigurationError(
                f"replication_factor of publisher {self.name!r} must be at least 1, not {self.replication_factor}"
            )
        if self.retention is not None and self.retention <= timedelta():
            raise ConfigurationError(
                f"retention of publisher {self.name!r} must be a time above zero, or left out to keep events for ever"
            )
        if self.on_failure not in get_args(OnFailure):
            raise ConfigurationError(
                f"on_failure of publisher {self.name!r} must be 'halt' or 'park', not {self.on_failure!r}"
            )

    def _check_topics(self) -> None:
        if self.categories is not None and not self.categories:
            raise ConfigurationError(f"publisher {self.name!r} has no categories: name some, or leave them out for all")
        for category in self.categories or ():
            if not isinstance(category, str) or not category or "-" in category or "/" in category:
                raise ConfigurationError(f"{category!r} is not a category: it is not empty and has neither '-' nor '/'")
        self.topics()

    @property
    def keeps_streams_whole(self) -> bool:
        """Whether all events of a stream go to one topic: what reads a stream's versions from it misses none."""
        return not isinstance(self.topic, ByType | ByFunction)

    def topic_of(self, category: str, event_type: str | None = None) -> str:
        """Return the topic that events go to.

        Args:
            category: The category of their stream.
            event_type: Their type, for a publisher that looks at it.

        Raises:
            UnroutableEventError: The name cannot be a topic's, or the function failed.
        """
        return self._as_topic(self._routed(category, event_type), f"the category {category!r}", event_type)

    def topics(self) -> tuple[str, ...]:
        """Return the topics that are known before any event is seen; those left open show up as they come."""
        if isinstance(self.topic, ByType):
            names: Sequence[str] = tuple(self.topic.names.values())
        elif isinstance(self.topic, ByFunction):
            names = self.topic.topics
        elif isinstance(self.topic, str):
            names = (self.topic,)
        else:
            return tuple(dict.fromkeys(self.topic_of(category) for category in self.categories or ()))
        return tuple(dict.fromkeys(self._as_topic(name, "its events", None) for name in names))

    def _routed(self, category: str, event_type: str | None) -> Any:
        try:
            if isinstance(self.topic, ByType | ByFunction):
                return self.topic.topic_of(Route(category, event_type or ""))
            return self.topic(category) if callable(self.topic) else self.topic or category
        except Exception as error:
            raise UnroutableEventError(
                self.name, category, event_type, f"the function that names the topic failed with {type(error).__name__}"
            ) from error

    def _as_topic(self, base: Any, what: str, event_type: str | None) -> str:
        topic = f"{self.topic_prefix}{base}"
        if not isinstance(base, str) or not is_topic_name(topic):
            problem = (
                f"publisher {self.name!r} would publish {what} to the topic {topic!r}, but {TOPIC_NAMES}: pass topic= "
                "with a name, or a function that gives one"
            )
        elif topic == self.cursor_topic or topic.startswith(f"{self.cursor_topic}-"):
            problem = f"the topic {topic!r} is the one of the cursor of publisher {self.name!r}"
        else:
            return topic
        raise UnroutableEventError(self.name, None, event_type, problem)

    @property
    def cursor_topic(self) -> str:
        """The topic that holds how far this publisher has come; of several groups, into which it is split."""
        return f"{self.topic_prefix}publisher-{self.name}-cursor"

    @property
    def fencing_id(self) -> str:
        """What all its instances call themselves at the broker, so that a new one fences the old one out."""
        return f"{self.topic_prefix}publisher-{self.name}"

    @property
    def checkpoint_name(self) -> str:
        """What its leases and checkpoints are named after: its own, or those of its groups."""
        return publisher_checkpoint(self.name)

    def all_groups(self, of: int | None = None) -> tuple[Group, ...]:
        """Return its groups, as declared or as if there were so many."""
        of = of or self.groups
        return tuple(Group(self, number, of) for number in range(1, of + 1))
