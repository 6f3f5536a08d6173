"""Aggregates: state folded from a stream, and commands that decide what happens next."""

from eventstore.aggregates.aggregate import Aggregate, handles
from eventstore.aggregates.decider import Decider, DeciderRepository
from eventstore.aggregates.folding import Folded, Shape, load_folded
from eventstore.aggregates.repository import Repository

__all__ = [
    "Aggregate",
    "Decider",
    "DeciderRepository",
    "Folded",
    "Repository",
    "Shape",
    "handles",
    "load_folded",
]
