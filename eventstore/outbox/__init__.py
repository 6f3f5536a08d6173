"""The log is its own outbox: what a publisher sends, and how an event looks outside, whatever the broker."""

from eventstore.outbox.publisher import Publisher

__all__ = ["Publisher"]
