"""The application: an inert value that names everything a service is made of.

Importing it does no I/O, reads no environment and needs no event loop, so that `--app module:object` can name it for
the service, the CLI, the workers and the tests alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias, TypeVar

from eventstore.errors import ConfigurationError
from eventstore.projections import InlineHook, Projection
from eventstore.snapshots.manager import snapshots_checkpoint

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from eventstore.aggregates import Aggregate, Decider, Shape
    from eventstore.codec import EventTypes
    from eventstore.kafka import KafkaSettings
    from eventstore.outbox import Publisher
    from eventstore.runtime.workers import Workers
    from eventstore.snapshots import Policy
    from eventstore.store import AppendHook, EventStore
    from eventstore.subscriptions import Subscription

    AggregateKind: TypeAlias = type[Aggregate[Any, Any]] | Decider[Any, Any, Any]


SNAPSHOTS: Final = "snapshots"
"""The name of the snapshot manager among the workers."""


class Application:
    """A service's event types, aggregates, projections, publishers, subscriptions and snapshot policies.

    Args:
        name: The application's name: a part of its workers' leases, and the source of its published events.
        events: The registered event types.
        aggregates: The aggregate classes and deciders, for `replay` and snapshots.
        projections: The projections.
        publishers: The publishers.
        subscriptions: The subscriptions.
        snapshots: When the streams of an aggregate are due for a snapshot.

    Raises:
        ConfigurationError: Two of them have the same name, an event of theirs is not registered, or publishers send
            one category to different topics.
    """

    def __init__(
        self,
        name: str,
        *,
        events: EventTypes,
        aggregates: Sequence[AggregateKind] = (),
        projections: Sequence[Projection] = (),
        publishers: Sequence[Publisher] = (),
        subscriptions: Sequence[Subscription] = (),
        snapshots: Mapping[AggregateKind, Policy] | None = None,
    ) -> None:
        if not name:
            raise ConfigurationError("an application needs a name")
        self.name = name
        self.events = events
        self.aggregates = tuple(aggregates)
        self.projections = tuple(projections)
        self.publishers = tuple(publishers)
        self.subscriptions = tuple(subscriptions)
        self.snapshots = dict(snapshots or {})
        self._check()

    def append_hooks(self) -> Sequence[AppendHook]:
        """Return what runs inside the append's transaction: the inline projections."""
        return [InlineHook(projection, self.events) for projection in self.projections if projection.inline]

    def shape(self, category: str) -> Shape[Any]:
        """Return how the streams of a category fold.

        Raises:
            ConfigurationError: No aggregate of the application has it.
        """
        shapes = {aggregate.shape.category: aggregate.shape for aggregate in self.aggregates}
        if category not in shapes:
            raise ConfigurationError(
                f"no aggregate of {self.name!r} has the category {category!r}; there are: {', '.join(shapes) or 'none'}"
            )
        return shapes[category]

    def projection(self, name: str) -> Projection:
        """Return a projection by its name.

        Raises:
            ConfigurationError: There is none with that name.
        """
        return _named("projection", name, self.projections)

    def publisher(self, name: str) -> Publisher:
        """Return a publisher by its name.

        Raises:
            ConfigurationError: There is none with that name.
        """
        return _named("publisher", name, self.publishers)

    def subscription(self, name: str) -> Subscription:
        """Return a subscription by its name.

        Raises:
            ConfigurationError: There is none with that name.
        """
        return _named("subscription", name, self.subscriptions)

    def followers(self) -> dict[str, str]:
        """Return the names of all workers that follow the log, each with that of its checkpoint."""
        names = {projection.name: projection.consumer_name for projection in self.projections if not projection.inline}
        names |= {group.name: group.checkpoint_name for each in self.publishers for group in each.all_groups()}
        names |= {subscription.name: subscription.checkpoint_name for subscription in self.subscriptions}
        return names | ({SNAPSHOTS: snapshots_checkpoint(self.name)} if self.snapshots else {})

    def snapshot_policies(self) -> dict[Shape[Any], Policy]:
        """Return when the streams of each shape are due."""
        return {aggregate.shape: policy for aggregate, policy in self.snapshots.items()}

    def workers(
        self, store: EventStore, *names: str, kafka: str | KafkaSettings | None = None, from_kafka: bool = False
    ) -> AbstractAsyncContextManager[Workers]:
        """Run workers in the background of a block: projections, publishers and subscriptions by name, and `snapshots`.

        Args:
            store: The store they work on.
            names: Which ones; all of them when none is named. Without `kafka`, publishers are left out then.
            kafka: The brokers, `host:port,…`, or `KafkaSettings` where more is needed to reach them. With it,
                projections are fed from Kafka where publishers are sure to send all their events: a projection that
                declares its categories, if all of them are published; one that does not, if a publisher leaves its
                categories out, and so sends every one. Otherwise, or where publishers split streams over topics, they
                are fed from the log.
            from_kafka: Refuse projections that Kafka cannot feed, instead of feeding them from the log.

        Raises:
            ConfigurationError: A name is unknown, a publisher is named without `kafka`, a projection cannot be fed from
                Kafka and must be, or it should be and a publisher leaves open to which topics it publishes.
        """
        from eventstore.runtime.workers import Workers  # noqa: PLC0415 - whoever only declares has no use for them

        return Workers(self, store, names, kafka=kafka, from_kafka=from_kafka).running()

    def __repr__(self) -> str:
        return f"Application({self.name!r})"

    def _check_topics(self) -> None:
        """Refuse publishers that send a category to different topics: who reads both would have its events twice.

        Publishers that split streams over topics feed no projection, so they may stand beside others, but in topics of
        their own: who reads a stream's versions there would miss some.
        """
        whole = [publisher for publisher in self.publishers if publisher.keeps_streams_whole]
        categories = {aggregate.shape.category for aggregate in self.aggregates}
        categories.update(category for publisher in whole for category in publisher.categories or ())
        if not categories and not any(callable(publisher.topic) for publisher in whole):
            categories = {"any"}  # they all publish every category, whatever it will be called
        taken: dict[str, str] = {}
        for category in sorted(categories):
            topics: dict[str, str] = {}
            for publisher in whole:
                if publisher.categories is None or category in publisher.categories:
                    topics.setdefault(publisher.topic_of(category), publisher.name)
            if len(topics) > 1:
                facts = ", ".join(f"{topic!r} (by {name!r})" for topic, name in topics.items())
                raise ConfigurationError(
                    f"the publishers of {self.name!r} send the category {category!r} to different topics: {facts}; a "
                    "projection fed from Kafka would have its events twice: let one of them publish it, or both to "
                    "one topic"
                )
            taken.update(topics)
        for publisher in self.publishers:
            for topic in publisher.topics():
                if not publisher.keeps_streams_whole and topic in taken:
                    raise ConfigurationError(
                        f"publisher {publisher.name!r} of {self.name!r} sends events to the topic {topic!r} by their "
                        f"types, beside {taken[topic]!r}, which sends whole streams there: give it a topic_prefix"
                    )

    def _check(self) -> None:
        projections = [projection.name for projection in self.projections]
        publishers = [publisher.name for publisher in self.publishers]
        subscriptions = [subscription.name for subscription in self.subscriptions]
        workers = [SNAPSHOTS, *projections, *publishers, *subscriptions]
        for what, names in (
            ("workers (projections, publishers, subscriptions, the snapshot manager)", workers),
            ("aggregates", [aggregate.shape.category for aggregate in self.aggregates]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ConfigurationError(f"two {what} of {self.name!r} are named {', '.join(sorted(twice))}")
        for aggregate in self.aggregates:
            for model in aggregate.shape.models:
                self.events.of_model(model)
        handled = [projection.models for projection in self.projections]
        for models in (*handled, *(subscription.models for subscription in self.subscriptions)):
            for model in models:
                self.events.of_model(model)
        self._check_topics()
        for aggregate in self.snapshots:
            if aggregate not in self.aggregates:
                raise ConfigurationError(f"snapshots of {aggregate!r}, which is not among the aggregates")


class _Named(Protocol):
    @property
    def name(self) -> str: ...


N = TypeVar("N", bound=_Named)


def _named(what: str, name: str, among: Sequence[N]) -> N:
    for one in among:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in among) or "none"
    raise ConfigurationError(f"there is no {what} named {name!r}; there are: {known}")
