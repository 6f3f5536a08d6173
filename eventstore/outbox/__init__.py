"""The outbox: what leaves the log for a broker, declared and encoded without knowing which broker it is."""

from eventstore.outbox.cloudevents import DISCARDED, CloudEvents, Headers, in_place_of, read_event
from eventstore.outbox.groups import Group, publisher_checkpoint
from eventstore.outbox.publisher import Publisher
from eventstore.outbox.routing import Route, by_function, by_type

__all__ = [
    "DISCARDED",
    "CloudEvents",
    "Group",
    "Headers",
    "Publisher",
    "Route",
    "by_function",
    "by_type",
    "in_place_of",
    "publisher_checkpoint",
    "read_event",
]
