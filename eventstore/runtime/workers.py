"""Running an application's workers: projections, publishers, subscriptions and the snapshot manager, in one process.

Workers are coroutines that never touch signals: whoever runs them cancels them, and they stop cleanly.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from eventstore.errors import ConfigurationError
from eventstore.lifecycle import running
from eventstore.projections import ProjectionWorker
from eventstore.runtime.application import SNAPSHOTS
from eventstore.snapshots import SnapshotManager
from eventstore.subscriptions import SubscriptionWorker
from eventstore.subscriptions.reporting import reporting

if TYPE_CHECKING:
    from eventstore.kafka import KafkaSettings
    from eventstore.outbox import Publisher
    from eventstore.projections import Projection
    from eventstore.runtime.application import Application
    from eventstore.store import EventStore
    from eventstore.subscriptions import Progress


class Worker(Protocol):
    """Something that runs until it is cancelled, and whose progress can be watched."""

    @property
    def progress(self) -> Progress:
        """How far it has come."""
        ...

    def run(self) -> Coroutine[Any, Any, None]:
        """Work until cancelled."""
        ...


@runtime_checkable
class WorksInGroups(Protocol):
    """A worker whose work is divided into groups, each of which has a checkpoint of its own."""

    @property
    def groups(self) -> Mapping[str, Progress]:
        """How far it has come with each, by the names of their checkpoints."""
        ...


class Workers:
    """Workers of an application, by name.

    Args:
        app: The application.
        store: The store they work on.
        names: Which ones; all that can run when none is named.
        kafka: The brokers, `host:port,…`, or how to reach them; without them there are no publishers, and projections
            follow the log.
        from_kafka: Whether projections must be fed from Kafka, instead of from the log where Kafka cannot feed them.

    Raises:
        ConfigurationError: A name is unknown, a publisher is named and there are no brokers, or a projection cannot be
            fed as it must be.
    """

    def __init__(
        self,
        app: Application,
        store: EventStore,
        names: Sequence[str] = (),
        *,
        kafka: str | KafkaSettings | None = None,
        from_kafka: bool = False,
    ) -> None:
        self._app = app
        self._store = store
        self._from_kafka = from_kafka
        self._kafka = _settings(kafka) if isinstance(kafka, str) else kafka
        self._workers = {name: self._worker(name) for name in names or self._all_names()}

    def __getitem__(self, name: str) -> Worker:
        return self._workers[name]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Workers]:
        """Run them in the background of the block, and stop them at its end; if one fails, the block ends with it."""
        # The reports go on while the workers end, so that the last one says how.
        work = (worker.run() for worker in self._workers.values())
        async with running(reporting(self._store.log.session, self._reported())), running(*work):
            yield self

    def _reported(self) -> dict[str, Progress]:
        """Return whose state is reported, by the names that it is looked for under: a publisher's by its groups."""
        checkpoints = self._app.followers()
        reported: dict[str, Progress] = {}
        for name, worker in self._workers.items():
            reported |= (
                worker.groups if isinstance(worker, WorksInGroups) else {checkpoints.get(name, name): worker.progress}
            )
        return reported

    def _all_names(self) -> list[str]:
        names = [projection.name for projection in self._app.projections if not projection.inline]
        if self._kafka:
            names += [publisher.name for publisher in self._app.publishers]
        names += [subscription.name for subscription in self._app.subscriptions]
        if self._app.snapshots:
            names.append(SNAPSHOTS)
        return names

    def _worker(self, name: str) -> Worker:
        if name == SNAPSHOTS:
            return SnapshotManager(self._store, self._app.snapshot_policies(), name=self._app.name)
        if any(subscription.name == name for subscription in self._app.subscriptions):
            return SubscriptionWorker(self._store, self._app.subscription(name))
        if any(publisher.name == name for publisher in self._app.publishers):
            if self._kafka is None:
                raise ConfigurationError(f"the publisher {name!r} needs brokers: pass kafka='host:port'")
            from eventstore.kafka import KafkaPublisher  # noqa: PLC0415 - loads the Kafka client, which few need

            return KafkaPublisher(self._store, self._app.publisher(name), self._kafka)
        return self._projector(self._app.projection(name))

    def _projector(self, projection: Projection) -> Worker:
        """Feed a projection from Kafka where publishers are sure to send its events there, and else from the log."""
        publishers = self._feeding(projection)
        if self._kafka is None or not publishers:
            if self._from_kafka:
                raise ConfigurationError(self._why_not_from_kafka(projection))
            return ProjectionWorker(self._store, projection)
        from eventstore.kafka import KafkaProjector  # noqa: PLC0415 - the same

        return KafkaProjector(
            self._store,
            projection,
            self._kafka,
            topics=[topic for publisher in publishers for topic in self._topics(publisher, projection)],
            publishers=[group.name for publisher in publishers for group in publisher.all_groups()],
        )

    def _feeding(self, projection: Projection) -> Sequence[Publisher]:
        """Return the publishers that together send all events a projection can want; none if there are no such.

        Any stream may have events of any model: what its aggregates declare says nothing of where else they are. So
        either the projection says which categories it wants, or somebody has to publish them all.
        """
        whole = [publisher for publisher in self._app.publishers if publisher.keeps_streams_whole]
        if projection.categories is None:
            return whole if any(publisher.categories is None for publisher in whole) else ()
        wanted = set(projection.categories)
        feeding = [each for each in whole if each.categories is None or wanted.intersection(each.categories)]
        sent = {category for each in feeding for category in each.categories or wanted}
        return feeding if wanted <= sent else ()

    def _topics(self, publisher: Publisher, projection: Projection) -> Sequence[str]:
        """Return the topics that a publisher sends a projection's events to."""
        if projection.categories is None:
            self._require_known_topics(publisher, projection)
            return publisher.topics()
        sent = publisher.categories or projection.categories
        return [publisher.topic_of(category) for category in projection.categories if category in sent]

    def _why_not_from_kafka(self, projection: Projection) -> str:
        wanted = projection.categories
        missing = "its categories are not all published" if wanted else "it wants the events of all categories"
        return (
            f"projection {projection.name!r} cannot be fed from Kafka: {missing}, and no publisher of "
            f"{self._app.name!r} sends all there are, whole streams to one topic; declare the categories that it "
            f"wants, as in Projection({projection.name!r}, categories=[...]), and publish them, or feed it from the log"
        )

    def _require_known_topics(self, publisher: Publisher, projection: Projection) -> None:
        """Check that the topics of a publisher are known before any event is seen: nobody could subscribe to others."""
        if publisher.categories is None and not isinstance(publisher.topic, str):
            known = sorted({aggregate.shape.category for aggregate in self._app.aggregates}) or ["..."]
            raise ConfigurationError(
                f"the publisher {publisher.name!r} names no categories, so its topics are not known before it runs, "
                f"and projection {projection.name!r} cannot be fed from them: name them, as in "
                f"Publisher({publisher.name!r}, categories={known}), or one topic for all of them (topic=), or feed "
                "the projection from the log"
            )


def _settings(brokers: str) -> KafkaSettings | None:
    if not brokers:
        return None
    from eventstore.kafka import KafkaSettings  # noqa: PLC0415 - loads the Kafka client, which few need

    return KafkaSettings(brokers)
