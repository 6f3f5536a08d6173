"""Projections: read models built from events, in the append's transaction, behind the log, or behind Kafka."""

from eventstore.projections.applying import ProjectionRunner
from eventstore.projections.inline import InlineHook
from eventstore.projections.projection import Projection, ProjectionContext
from eventstore.projections.rebuilding import rebuild
from eventstore.projections.worker import ProjectionWorker

__all__ = ["InlineHook", "Projection", "ProjectionContext", "ProjectionRunner", "ProjectionWorker", "rebuild"]
