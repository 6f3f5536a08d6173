"""A publisher's declaration: which events leave the log, and under which topics. Inert: nothing here does I/O."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from eventstore.errors import ConfigurationError

DEFAULT_PARTITIONS: Final = 8
DEFAULT_BATCH: Final = 1000

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_UNUSABLE_TOPICS: Final = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class Publisher:
    """Events of some categories, published each once and in the order of their streams.

    One topic a category by default, named like the category; key and partition follow from the stream, so that a
    stream's events stay in order.

    Attributes:
        name: Names it for good: its cursor, its lease and its transactional id hang on it. Another name publishes
            everything again.
        categories: The categories to publish; all of them when left out.
        topic: Where events go: one topic's name, or a function from category to topic. The category when left out.
        topic_prefix: Written before the names of all its topics, the one of its cursor included, so that stores can
            share a cluster.
        partitions: Partitions of the topics that it creates. Their number cannot change later: streams would move to
            other partitions and lose their order.
        replication_factor: Copies of the topics that it creates; the cluster's default when left out.
        create_topics: Whether it creates missing topics; otherwise a missing one is an error.
        retention: How long the topics keep events; for ever when left out.
        batch: The most events of the log looked at, and published, in one transaction.
        source: The beginning of the CloudEvents source; `/eventstore/<name>` when left out.

    Raises:
        ConfigurationError: A value is not usable; the message says which, and what is.
    """

    name: str
    categories: Sequence[str] | None = field(default=None, kw_only=True)
    topic: str | Callable[[str], str] | None = field(default=None, kw_only=True)
    topic_prefix: str = field(default="", kw_only=True)
    partitions: int = field(default=DEFAULT_PARTITIONS, kw_only=True)
    replication_factor: int | None = field(default=None, kw_only=True)
    create_topics: bool = field(default=True, kw_only=True)
    retention: timedelta | None = field(default=None, kw_only=True)
    batch: int = field(default=DEFAULT_BATCH, kw_only=True)
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
        for what, value in (("partitions", self.partitions), ("batch", self.batch)):
            if value < 1:
                raise ConfigurationError(f"{what} of publisher {self.name!r} must be at least 1, not {value}")
        if self.replication_factor is not None and self.replication_factor < 1:
            raise ConfigurationError(
                f"replication_factor of publisher {self.name!r} must be at least 1, not {self.replication_factor}"
            )
        if self.retention is not None and self.retention <= timedelta():
            raise ConfigurationError(
                f"retention of publisher {self.name!r} must be a time above zero, or left out to keep events for ever"
            )

    def _check_topics(self) -> None:
        if self.categories is not None and not self.categories:
            raise ConfigurationError(f"publisher {self.name!r} has no categories: name some, or leave them out for all")
        for category in self.categories or ():
            if not isinstance(category, str) or not category or "-" in category or "/" in category:
                raise ConfigurationError(f"{category!r} is not a category: it is not empty and has neither '-' nor '/'")
        self.topics()

    def topic_of(self, category: str) -> str:
        """Return the topic that a category's events go to.

        Raises:
            ConfigurationError: The name cannot be a topic's.
        """
        base = self.topic(category) if callable(self.topic) else self.topic or category
        topic = f"{self.topic_prefix}{base}"
        if not _TOPIC.fullmatch(topic) or topic in _UNUSABLE_TOPICS:
            raise ConfigurationError(
                f"publisher {self.name!r} would publish the category {category!r} to the topic {topic!r}, but topics "
                "have 1 to 249 letters, digits, '.', '_' or '-': pass topic= with a name, or a function that gives one"
            )
        if topic == self.cursor_topic:
            raise ConfigurationError(f"the topic {topic!r} is the one of the cursor of publisher {self.name!r}")
        return topic

    def topics(self) -> tuple[str, ...]:
        """Return the topics that are known before any event is seen; categories left open show up as they come."""
        if isinstance(self.topic, str):
            return (self.topic_of(self.topic),)
        return tuple(dict.fromkeys(self.topic_of(category) for category in self.categories or ()))

    @property
    def cursor_topic(self) -> str:
        """The topic that holds nothing but how far this publisher has come."""
        return f"{self.topic_prefix}publisher-{self.name}-cursor"

    @property
    def fencing_id(self) -> str:
        """What all its instances call themselves at the broker, so that a new one fences the old one out."""
        return f"{self.topic_prefix}publisher-{self.name}"

    @property
    def checkpoint_name(self) -> str:
        """The name of its lease, and of the mirror of its cursor among the store's checkpoints."""
        return publisher_checkpoint(self.name)


def publisher_checkpoint(name: str) -> str:
    """Return the name of a publisher's lease and checkpoint."""
    return f"publisher:{name}"
