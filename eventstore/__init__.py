"""Event sourcing on PostgreSQL for async Python services.

Append versioned events to streams, fold them into aggregates, keep snapshots, publish to Kafka, and build read models.
Everything a service needs is here; the testing kit is in `eventstore.testing`, migrations run by `eventstore migrate`.
"""

import importlib
import logging
from typing import TYPE_CHECKING

from eventstore.metadata import Metadata, current_metadata, metadata

if TYPE_CHECKING:
    from eventstore.aggregates import Aggregate, Decider, DeciderRepository, Folded, Repository, handles
    from eventstore.codec import EventTypes, Upcast
    from eventstore.db.autogenerate import leave_out_store
    from eventstore.errors import (
        AggregateNotFoundError,
        CodecError,
        CommitOutcomeUnknownError,
        ConcurrencyError,
        ConfigurationError,
        EventStoreError,
        IdempotencyError,
        InvalidArgumentError,
        OutcomeUnknownError,
        ParkedStreamError,
        SchemaError,
        UnavailableError,
        WrongExpectedVersionError,
    )
    from eventstore.events import (
        BEGINNING,
        AppendResult,
        NewEvent,
        Position,
        RawEvent,
        RecordedEvent,
        StreamInfo,
    )
    from eventstore.health import FollowerHealth, Health, check_health
    from eventstore.outbox import Publisher, Route, by_function, by_type
    from eventstore.projections import (
        Park,
        Projection,
        ProjectionContext,
        Stop,
        discard_parked,
        rebuild,
        replay_parked,
    )
    from eventstore.runtime import Application
    from eventstore.snapshots import SnapshotManager, after, any_of, every, on_event, slower_than
    from eventstore.store import EventIterator, EventStore, Transaction
    from eventstore.streams import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion, StreamId, slice_of
    from eventstore.subscriptions import (
        END,
        EventBatch,
        Subscription,
        SubscriptionContext,
        SubscriptionReader,
        delete_subscription,
        recorded_from,
        reset_subscription,
    )

__all__ = [
    "ANY",
    "BEGINNING",
    "END",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Aggregate",
    "AggregateNotFoundError",
    "AppendResult",
    "Application",
    "CodecError",
    "CommitOutcomeUnknownError",
    "ConcurrencyError",
    "ConfigurationError",
    "Decider",
    "DeciderRepository",
    "EventBatch",
    "EventIterator",
    "EventStore",
    "EventStoreError",
    "EventTypes",
    "ExpectedVersion",
    "Folded",
    "FollowerHealth",
    "Health",
    "IdempotencyError",
    "InvalidArgumentError",
    "Metadata",
    "NewEvent",
    "OutcomeUnknownError",
    "Park",
    "ParkedStreamError",
    "Position",
    "Projection",
    "ProjectionContext",
    "Publisher",
    "RawEvent",
    "RecordedEvent",
    "Repository",
    "Route",
    "SchemaError",
    "SnapshotManager",
    "Stop",
    "StreamId",
    "StreamInfo",
    "Subscription",
    "SubscriptionContext",
    "SubscriptionReader",
    "Transaction",
    "UnavailableError",
    "Upcast",
    "WrongExpectedVersionError",
    "after",
    "any_of",
    "by_function",
    "by_type",
    "check_health",
    "current_metadata",
    "delete_subscription",
    "discard_parked",
    "every",
    "handles",
    "leave_out_store",
    "metadata",
    "on_event",
    "rebuild",
    "recorded_from",
    "replay_parked",
    "reset_subscription",
    "slice_of",
    "slower_than",
]

_HOMES = {
    "eventstore.aggregates": (
        "Aggregate",
        "Decider",
        "DeciderRepository",
        "Folded",
        "Repository",
        "handles",
    ),
    "eventstore.codec": (
        "EventTypes",
        "Upcast",
    ),
    "eventstore.db.autogenerate": ("leave_out_store",),
    "eventstore.errors": (
        "AggregateNotFoundError",
        "CodecError",
        "CommitOutcomeUnknownError",
        "ConcurrencyError",
        "ConfigurationError",
        "EventStoreError",
        "IdempotencyError",
        "InvalidArgumentError",
        "OutcomeUnknownError",
        "ParkedStreamError",
        "SchemaError",
        "UnavailableError",
        "WrongExpectedVersionError",
    ),
    "eventstore.events": (
        "BEGINNING",
        "AppendResult",
        "NewEvent",
        "Position",
        "RawEvent",
        "RecordedEvent",
        "StreamInfo",
    ),
    "eventstore.health": (
        "FollowerHealth",
        "Health",
        "check_health",
    ),
    "eventstore.outbox": ("Publisher", "Route", "by_function", "by_type"),
    "eventstore.projections": (
        "Park",
        "Projection",
        "ProjectionContext",
        "Stop",
        "discard_parked",
        "rebuild",
        "replay_parked",
    ),
    "eventstore.runtime": ("Application",),
    "eventstore.snapshots": (
        "SnapshotManager",
        "after",
        "any_of",
        "every",
        "on_event",
        "slower_than",
    ),
    "eventstore.store": (
        "EventIterator",
        "EventStore",
        "Transaction",
    ),
    "eventstore.streams": (
        "ANY",
        "NO_STREAM",
        "STREAM_EXISTS",
        "ExpectedVersion",
        "StreamId",
        "slice_of",
    ),
    "eventstore.subscriptions": (
        "END",
        "EventBatch",
        "Subscription",
        "SubscriptionContext",
        "SubscriptionReader",
        "delete_subscription",
        "recorded_from",
        "reset_subscription",
    ),
}
"""Where each name lives. Its module is loaded when the name is first used, so that importing the package, as the pytest
plugin does in every test run of a service, costs next to nothing. `metadata` is imported above, because a module has
the same name."""

_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

if not TYPE_CHECKING:  # a type checker reads the imports above, and still knows which names there are not

    def __getattr__(name: str) -> object:
        """Load a public name."""
        home = _HOME_OF.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = globals()[name] = getattr(importlib.import_module(home), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


logging.getLogger("eventstore").addHandler(logging.NullHandler())  # what is logged where is the service's decision
