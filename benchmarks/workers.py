"""The framework's workers of the benchmarks, declared as a user declares them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from benchmarks.domain import Deposited
from benchmarks.loops import BALANCES, UPSERT
from eventstore import Projection, ProjectionContext, Publisher, RecordedEvent
from eventstore.kafka import KafkaProjector, KafkaPublisher, KafkaSettings

if TYPE_CHECKING:
    from eventstore import EventStore

TOPIC: Final = "events"
"""The topic of the log, below the run's prefix."""


def publisher(store: EventStore, bootstrap: str, prefix: str, topic: str = TOPIC) -> KafkaPublisher:
    """Return the publisher of a whole log to one topic, whose name it has."""
    return KafkaPublisher(store, Publisher(topic, topic=topic, topic_prefix=prefix), KafkaSettings(bootstrap))


def projector(
    store: EventStore, projection: Projection, bootstrap: str, prefix: str, topic: str = TOPIC
) -> KafkaProjector:
    """Return the projector behind that publisher."""
    topics = [f"{prefix}{topic}"]
    return KafkaProjector(store, projection, KafkaSettings(bootstrap), topics=topics, publishers=[topic])


def balances(name: str, note: Callable[[str], None] | None = None) -> Projection:
    """Return the projection that upserts a row for each deposit, batch by batch.

    Args:
        name: Its name.
        note: Hears the reference of each.
    """
    projection = Projection(name, setup=BALANCES)

    @projection.on_batch(Deposited)
    async def upsert(events: Sequence[RecordedEvent[Deposited]], ctx: ProjectionContext) -> None:
        if note is not None:
            for event in events:
                note(event.data.reference)
        await ctx.connection.executemany(UPSERT, [(event.stream_id, event.data.amount) for event in events])

    return projection
