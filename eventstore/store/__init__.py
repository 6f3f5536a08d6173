"""The store: append events to streams and read them back, on PostgreSQL or on any other `Log`."""

from eventstore.store.event_store import EventStore
from eventstore.store.hooks import AppendHook, HookContext
from eventstore.store.log import AppendOutcome, AppendRequest, Log, LogPage, StoredSnapshot
from eventstore.store.operations import Operations, RepositoryKind
from eventstore.store.reading import EventIterator
from eventstore.store.transaction import Transaction

__all__ = [
    "AppendHook",
    "AppendOutcome",
    "AppendRequest",
    "EventIterator",
    "EventStore",
    "HookContext",
    "Log",
    "LogPage",
    "Operations",
    "RepositoryKind",
    "StoredSnapshot",
    "Transaction",
]
