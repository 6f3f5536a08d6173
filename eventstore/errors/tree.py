"""The root of the tree, and its main branches."""

from __future__ import annotations

from typing import ClassVar


class EventStoreError(Exception):
    """The root of the tree: catching it catches everything the framework raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call can succeed later without anybody changing it."""


class InvalidArgumentError(EventStoreError, ValueError):
    """The call itself is wrong; nothing was sent to the database."""


class ConcurrencyError(EventStoreError):
    """Somebody else came first: load again, decide again, and append again (`Repository.execute` does all three)."""

    retryable = True


class UnavailableError(EventStoreError):
    """PostgreSQL or Kafka cannot be reached or refuses work just now; nothing of the call happened."""

    retryable = True


class SchemaError(EventStoreError):
    """The database's schema or server does not fit this version of the framework."""


class CodecError(EventStoreError):
    """An event cannot be written as JSON, or what is stored cannot be read as an event."""


class ConfigurationError(EventStoreError):
    """A setting, a declaration or a topic is wrong: the message says which, and how to mend it."""
