"""Projections: read models built from events, in the append's transaction, behind the log, or behind Kafka."""

from eventstore.projections.applying import ProjectionRunner
from eventstore.projections.failing import FailurePolicy, Park, Stop
from eventstore.projections.inline import InlineHook
from eventstore.projections.parking import DiscardedEvent, ParkedStream, ParkedStreams
from eventstore.projections.projection import Projection, ProjectionContext
from eventstore.projections.rebuilding import rebuild
from eventstore.projections.replaying import Replayed, discard_parked, replay_all_parked, replay_parked
from eventstore.projections.worker import ProjectionWorker

__all__ = [
    "DiscardedEvent",
    "FailurePolicy",
    "InlineHook",
    "Park",
    "ParkedStream",
    "ParkedStreams",
    "Projection",
    "ProjectionContext",
    "ProjectionRunner",
    "ProjectionWorker",
    "Replayed",
    "Stop",
    "discard_parked",
    "rebuild",
    "replay_all_parked",
    "replay_parked",
]
