"""Event sourcing on PostgreSQL for async Python services.

Append versioned events to streams, fold them into aggregates, keep snapshots, publish to Kafka, and build read models.
Everything a service needs is here; the testing kit is in `eventstore.testing`, migrations run by `eventstore migrate`.
"""

import logging

from eventstore.aggregates import Aggregate, Decider, DeciderRepository, Folded, Repository, handles
from eventstore.codec import EventTypes, Upcast
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
from eventstore.metadata import Metadata, current_metadata, metadata
from eventstore.outbox import Publisher
from eventstore.projections import Projection, ProjectionContext, rebuild
from eventstore.runtime import Application
from eventstore.snapshots import SnapshotManager, after, any_of, every, on_event, slower_than
from eventstore.store import EventIterator, EventStore, Transaction
from eventstore.streams import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion, StreamId, slice_of

__all__ = [
    "ANY",
    "BEGINNING",
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
    "EventIterator",
    "EventStore",
    "EventStoreError",
    "EventTypes",
    "ExpectedVersion",
    "Folded",
    "IdempotencyError",
    "InvalidArgumentError",
    "Metadata",
    "NewEvent",
    "OutcomeUnknownError",
    "Position",
    "Projection",
    "ProjectionContext",
    "Publisher",
    "RawEvent",
    "RecordedEvent",
    "Repository",
    "SchemaError",
    "SnapshotManager",
    "StreamId",
    "StreamInfo",
    "Transaction",
    "UnavailableError",
    "Upcast",
    "WrongExpectedVersionError",
    "after",
    "any_of",
    "current_metadata",
    "every",
    "handles",
    "metadata",
    "on_event",
    "rebuild",
    "slice_of",
    "slower_than",
]

logging.getLogger("eventstore").addHandler(logging.NullHandler())  # what is logged where is the service's decision
