"""The outbox: what leaves the log for a broker, declared and encoded without knowing which broker it is."""

from eventstore.outbox.cloudevents import CloudEvents, Headers, read_event
from eventstore.outbox.publisher import Publisher

__all__ = ["CloudEvents", "Headers", "Publisher", "read_event"]
