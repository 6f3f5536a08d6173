"""Events as JSON and back: an explicit registry, schema versions, upcasters, and values that come back identical."""

from eventstore.codec.codec import Codec, EncodedEvent
from eventstore.codec.registry import EventTypes, Upcast
from eventstore.codec.selection import Selection
from eventstore.codec.stored import StoredEvent

__all__ = ["Codec", "EncodedEvent", "EventTypes", "Selection", "StoredEvent", "Upcast"]
