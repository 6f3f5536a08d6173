"""Every error the framework raises on purpose, in one tree.

Each class says in its docstring what happened and what to do, carries the facts as attributes, and says through
`retryable` whether doing the same again can help. No error, nor its repr, ever holds a payload or a password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID


class EventStoreError(Exception):
    """The root of the tree: catching it catches everything the framework raises on purpose."""

    retryable: ClassVar[bool] = False
    """Whether the same call can succeed later without anybody changing it."""


# --- what the caller asked for -------------------------------------------------------------------------------------


class InvalidArgumentError(EventStoreError, ValueError):
    """The call itself is wrong; nothing was sent to the database."""


class InvalidStreamIdError(InvalidArgumentError):
    """A stream id is not of the form `category-key`; nothing was sent."""

    def __init__(self, stream_id: str, problem: str) -> None:
        self.stream_id = stream_id
        self.problem = problem
        shown = stream_id if len(stream_id) <= 80 else stream_id[:77] + "..."  # noqa: PLR2004 - a line's width
        super().__init__(f"invalid stream id {shown!r}: {problem}; use `category-key`, for example 'order-42'")


class EmptyAppendError(InvalidArgumentError):
    """An append without events means nothing; guard the call, or use a repository, where saving nothing is fine."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(f"no events to append to {stream_id!r}: pass at least one, or do not call append")


class SelfDeadlockError(InvalidArgumentError):
    """An append outside a transaction would wait for the stream that the same task's open transaction has written."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(
            f"{stream_id!r} was written by this task's open transaction, so an append outside it would wait for "
            "itself: append through the transaction (tx.append), or after it"
        )


class AggregateNotFoundError(EventStoreError, LookupError):
    """No event of this aggregate exists; use `load_or_new` or `execute` where a new one is welcome."""

    def __init__(self, stream_id: str) -> None:
        self.stream_id = stream_id
        super().__init__(f"{stream_id!r} has no events: check the key, or use load_or_new() to start it")


# --- two writers ---------------------------------------------------------------------------------------------------


class ConcurrencyError(EventStoreError):
    """Somebody else came first: load again, decide again, and append again (`Repository.execute` does all three)."""

    retryable = True


class WrongExpectedVersionError(ConcurrencyError):
    """The stream is not at the version that the caller expected; nothing was appended."""

    def __init__(self, stream_id: str, expected: object, actual: int) -> None:
        self.stream_id = stream_id
        self.expected = expected
        self.actual = actual
        super().__init__(
            f"{stream_id!r} is at version {actual}, not at the expected {expected}: nothing was appended; load it "
            "again and decide again"
        )


class TransactionConflictError(ConcurrencyError):
    """PostgreSQL ended the transaction in favour of another one (deadlock, serialisation); nothing of it happened."""


class TransactionAbortedError(EventStoreError):
    """A statement in the transaction failed and its error was caught: PostgreSQL has rolled everything back."""

    def __init__(self) -> None:
        super().__init__(
            "a statement in this transaction failed, so PostgreSQL rolled all of it back, appends included: put a "
            "savepoint (async with tx.connection.transaction()) around what may fail, and run the transaction again"
        )


class LeaseLostError(ConcurrencyError):
    """Another instance holds the lease of this worker now; this one stopped before it could do harm."""

    def __init__(self, name: str, owner: str | None = None) -> None:
        self.name = name
        self.owner = owner
        held = f", {owner} holds it" if owner else ""
        super().__init__(f"the lease {name!r} was lost{held}: this worker steps back and waits its turn")


class IdempotencyError(EventStoreError):
    """These event ids were appended before, with other content or in another place; nothing was appended."""

    def __init__(self, stream_id: str, event_ids: Sequence[UUID], problem: str) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        self.problem = problem
        super().__init__(
            f"event ids are already used in {stream_id!r}: {problem}; give a new fact new ids, and repeat an append "
            "only with the same events"
        )


# --- the database --------------------------------------------------------------------------------------------------


class UnavailableError(EventStoreError):
    """PostgreSQL or Kafka cannot be reached or refuses work just now; nothing of the call happened."""

    retryable = True


class NotCaughtUpError(UnavailableError):
    """A worker has not come as far as was waited for in the time that was given; it goes on all the same."""

    def __init__(self, worker: str, position: int, state: str, seconds: float, waits_for: str | None = None) -> None:
        self.worker = worker
        self.position = position
        self.state = state
        self.seconds = seconds
        self.waits_for = waits_for
        hint = f"; it needs {waits_for}: see that it runs" if waits_for else ""
        super().__init__(
            f"the {worker} has not come as far as was asked for within {seconds:g} s: it is at position {position}, "
            f"{state}{hint}"
        )


class NotConnectedError(UnavailableError):
    """No connection to PostgreSQL could be had; nothing was sent."""


class NotPrimaryError(UnavailableError):
    """Whoever follows the log has reached a replica: how far the log is settled, only the primary knows."""

    def __init__(self) -> None:
        super().__init__(
            "this PostgreSQL is a replica: the log is followed on the primary only; name the primary in the DSN"
        )


class OutcomeUnknownError(EventStoreError):
    """The answer was lost after the events were sent, so they may be there or not.

    Append the same events with the same `event_ids` again: the store then returns the original result if they are
    there, and appends them if they are not.
    """

    retryable = True

    def __init__(self, stream_id: str, event_ids: Sequence[UUID], reason: str) -> None:
        self.stream_id = stream_id
        self.event_ids = tuple(event_ids)
        self.reason = reason
        super().__init__(
            f"whether {len(self.event_ids)} event(s) were appended to {stream_id!r} is unknown ({reason}): append "
            "them again with the same event ids, the store finds out"
        )


class CommitOutcomeUnknownError(EventStoreError):
    """A transaction's COMMIT got no answer and it appended nothing that could be looked up: check its effects."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"whether the transaction committed is unknown ({reason}): look for its effects before you repeat it"
        )


class SchemaError(EventStoreError):
    """The database's schema or server does not fit this version of the framework."""


class MissingMigrationError(SchemaError):
    """The database's schema is absent or older than this version of the framework needs."""

    def __init__(self, schema: str, found: str | None, needed: str) -> None:
        self.schema = schema
        self.found = found
        self.needed = needed
        state = f"is at revision {found}" if found else "has not been created"
        super().__init__(f"the schema {schema!r} {state}, this version needs {needed}: run `eventstore migrate`")


class SchemaTooNewError(SchemaError):
    """The database's schema was migrated by a newer version of the framework than this one."""

    def __init__(self, schema: str, found: str, needed: str) -> None:
        self.schema = schema
        self.found = found
        self.needed = needed
        super().__init__(
            f"the schema {schema!r} is at revision {found}, which this version (at {needed}) does not know: upgrade "
            "this service with `pip install --upgrade pg-eventstore`"
        )


class UnsupportedServerError(SchemaError):
    """The PostgreSQL server is older than the framework supports."""

    def __init__(self, found: str, needed: str) -> None:
        self.found = found
        self.needed = needed
        super().__init__(f"the server is PostgreSQL {found}, this framework needs {needed} or newer: upgrade it")


# --- payloads ------------------------------------------------------------------------------------------------------


class CodecError(EventStoreError):
    """An event cannot be written as JSON, or what is stored cannot be read as an event."""


class UnknownEventTypeError(CodecError):
    """An event's type is not registered with the application."""

    def __init__(self, event_type: str, *, stream_id: str | None = None, stream_version: int | None = None) -> None:
        self.event_type = event_type
        self.stream_id = stream_id
        self.stream_version = stream_version
        where = f" (version {stream_version} of {stream_id!r})" if stream_id else ""
        super().__init__(
            f"the event type {event_type!r}{where} is not registered: register it with EventTypes.register, or read "
            "with of=RawEvent"
        )


class UnstorablePayloadError(CodecError):
    """An event's data would not come back from storage as it is now; nothing was sent."""

    def __init__(self, event_type: str, problem: str) -> None:
        self.event_type = event_type
        self.problem = problem
        super().__init__(f"{event_type!r} cannot be stored: {problem}")


class UnreadablePayloadError(CodecError):
    """A stored event no longer validates as its registered model: register a new version with an upcaster."""

    def __init__(self, event_type: str, schema_version: int, stream_id: str, stream_version: int, problem: str) -> None:
        self.event_type = event_type
        self.schema_version = schema_version
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.problem = problem
        super().__init__(
            f"version {stream_version} of {stream_id!r} ({event_type!r}, schema version {schema_version}) cannot be "
            f"read: {problem}; raise the model's version and add an upcaster"
        )


class UpcastError(UnreadablePayloadError):
    """An upcaster failed on a stored event: mend the upcaster, the stored event stays as it is."""


class NewerSchemaVersionError(CodecError):
    """A stored event was written by newer code than this: deploy the code that knows its schema version."""

    def __init__(self, event_type: str, found: int, known: int, stream_id: str, stream_version: int) -> None:
        self.event_type = event_type
        self.found = found
        self.known = known
        self.stream_id = stream_id
        self.stream_version = stream_version
        super().__init__(
            f"version {stream_version} of {stream_id!r} holds {event_type!r} with schema version {found}, this code "
            f"knows {known}: deploy the newer code first"
        )


# --- configuration -------------------------------------------------------------------------------------------------


class ConfigurationError(EventStoreError):
    """A setting, a declaration or a topic is wrong: the message says which, and how to mend it."""


class FedByKafkaError(ConfigurationError):
    """A read model is fed from Kafka, so the log cannot go on feeding it: keep to Kafka, or rebuild it from the log."""

    def __init__(self, projection: str) -> None:
        self.projection = projection
        super().__init__(
            f"the projection {projection!r} is fed from Kafka, and where that has come is no place in the log: from "
            "here its events would be applied twice; go on with Kafka (`eventstore project --from kafka`, "
            f"workers(kafka=...)), or stop that and build it anew: `eventstore rebuild {projection}`"
        )


class InvalidDsnError(ConfigurationError):
    """The database address cannot be parsed. The address itself is never shown: it may hold a password."""

    def __init__(self, problem: str) -> None:
        self.problem = problem
        super().__init__(f"invalid DSN: {problem}; write it as postgresql://user:password@host:5432/database")


class UnsafeServerError(ConfigurationError):
    """PostgreSQL runs with a setting under which an acknowledged append can be lost."""

    def __init__(self, setting: str, consequence: str) -> None:
        self.setting = setting
        super().__init__(
            f"PostgreSQL runs with {setting}=off: {consequence}; set {setting}=on, or, where events may be lost (in "
            "tests), open the store with ?eventstore.durability_check=off at the end of the DSN"
        )


class WrongEventLoopError(ConfigurationError):
    """A store belongs to the event loop it was opened in; open another one in this loop."""

    def __init__(self) -> None:
        super().__init__("this store was opened in another event loop: open one in each loop that uses it")


class ClosedError(ConfigurationError):
    """The store or worker is not open: it was closed, or its `async with` has not been entered."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__(f"the {what} is not open: use it inside its `async with` block")


class MissingTopicError(ConfigurationError):
    """A Kafka topic does not exist, and the publisher was told not to make it."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(
            f"the Kafka topic {topic!r} does not exist: create it, or let the publisher create it (create_topics=True)"
        )


class TopicConfigurationError(ConfigurationError):
    """A Kafka topic's settings would lose or reorder events: the message names the setting and its right value."""

    def __init__(self, topic: str, problem: str) -> None:
        self.topic = topic
        self.problem = problem
        super().__init__(f"the Kafka topic {topic!r} is not fit: {problem}")


class UnroutableEventError(ConfigurationError):
    """A publisher's route gives an event no name that a topic can have: mend `topic=`, nothing was skipped."""

    def __init__(self, publisher: str, category: str | None, event_type: str | None, problem: str) -> None:
        self.publisher = publisher
        self.category = category
        self.event_type = event_type
        self.problem = problem
        about = "" if category is None else f" for the category {category!r}"
        super().__init__(f"{problem}{about}")


# --- what leaves the log -------------------------------------------------------------------------------------------


class MessageTooLargeError(EventStoreError):
    """An event is larger than the broker accepts: raise the topic's max.message.bytes, nothing was skipped."""

    def __init__(self, topic: str, stream_id: str, stream_version: int, size: int, limit: int) -> None:
        self.topic = topic
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.size = size
        self.limit = limit
        super().__init__(
            f"version {stream_version} of {stream_id!r} takes {size} bytes, the topic {topic!r} accepts {limit}: raise "
            "max.message.bytes of the topic (and the publisher's max_request_size); nothing was skipped"
        )


class LogMismatchError(EventStoreError):
    """A checkpoint does not fit the log (or Kafka lost what was published): somebody must look before work goes on."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name!r} stopped: {problem}")


class ProjectionFailedError(EventStoreError):
    """A projection's handler failed on an event; the read model and its checkpoint stay before that event."""

    def __init__(self, projection: str, event_type: str, stream_id: str, stream_version: int, reason: str) -> None:
        self.projection = projection
        self.event_type = event_type
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.reason = reason
        super().__init__(
            f"projection {projection!r} failed on version {stream_version} of {stream_id!r} ({event_type!r}): {reason}"
        )


class SubscriptionFailedError(EventStoreError):
    """A subscription's handler failed on an event again and again; its checkpoint stays before that event."""

    def __init__(
        self, subscription: str, event_type: str, stream_id: str, stream_version: int, *, attempts: int, reason: str
    ) -> None:
        self.subscription = subscription
        self.event_type = event_type
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.attempts = attempts
        self.reason = reason
        super().__init__(
            f"subscription {subscription!r} failed {attempts} time(s) on version {stream_version} of {stream_id!r} "
            f"({event_type!r}): {reason}; it stays before that event: mend the handler and start it again"
        )


class SubscriptionInUseError(EventStoreError):
    """A subscription cannot be deleted while somebody reads it: it would only begin again."""

    def __init__(self, name: str, owner: str) -> None:
        self.name = name
        self.owner = owner
        super().__init__(f"subscription {name!r} is being read (by {owner}): stop its reader first")


class StreamGapError(LogMismatchError):
    """A read model fed by Kafka met a stream's later event before an earlier one: the topic has lost events."""

    def __init__(self, name: str, topic: str, stream_id: str, expected: int, found: int) -> None:
        self.topic = topic
        self.stream_id = stream_id
        self.expected = expected
        self.found = found
        super().__init__(
            name,
            f"the topic {topic!r} goes on with version {found} of {stream_id!r}, but version {expected} has not come: "
            "it has lost events (retention, deletion?); rebuild the projection from the PostgreSQL log",
        )


class UnreadableRecordError(CodecError):
    """A record on an event topic is not an event of a store: somebody else writes to the topic."""

    def __init__(self, topic: str, partition: int, offset: int, problem: str) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.problem = problem
        super().__init__(
            f"offset {offset} of partition {partition} of the Kafka topic {topic!r} is not an event ({problem}): keep "
            "other writers out of the topic, and give events one that is theirs alone"
        )


class HangingTransactionError(EventStoreError):
    """A Kafka transaction stays open on a cursor topic longer than the broker allows: it must be ended by hand."""

    def __init__(self, topic: str, seconds: float) -> None:
        self.topic = topic
        self.seconds = seconds
        super().__init__(
            f"a transaction has held the Kafka topic {topic!r} open for more than {seconds:.0f} s: find it with "
            "`kafka-transactions.sh find-hanging`, and end it with its `abort` command"
        )


class ParkedStreamError(EventStoreError):
    """A projection holds back the stream that was asked about: what is in it from there on is not in the read model."""

    def __init__(self, projection: str, stream_id: str, from_version: int) -> None:
        self.projection = projection
        self.stream_id = stream_id
        self.from_version = from_version
        super().__init__(
            f"projection {projection!r} holds {stream_id!r} back from version {from_version} on, because that event "
            f"could not be applied: `eventstore parked show {projection} {stream_id}` says why"
        )


class NotParkedError(EventStoreError, LookupError):
    """A projection does not hold this stream back (any more)."""

    def __init__(self, projection: str, stream_id: str) -> None:
        self.projection = projection
        self.stream_id = stream_id
        super().__init__(
            f"projection {projection!r} does not hold {stream_id!r} back: `eventstore parked list` shows what it does"
        )


class TooManyParkedStreamsError(EventStoreError):
    """A projection would hold back more streams than its policy allows: its handler is broken, not some events."""

    def __init__(self, projection: str, limit: int, stream_id: str, stream_version: int) -> None:
        self.projection = projection
        self.limit = limit
        self.stream_id = stream_id
        self.stream_version = stream_version
        super().__init__(
            f"projection {projection!r} holds {limit} stream(s) back, as many as its policy allows, and failed on "
            f"version {stream_version} of {stream_id!r} too: mend the handler, `eventstore parked replay "
            f"{projection} --all`, and start it again"
        )


class WaitsForItselfError(InvalidArgumentError):
    """A wait for a projection inside a transaction that has appended: it cannot come further before the commit."""

    def __init__(self, projection: str) -> None:
        self.projection = projection
        super().__init__(
            f"this task's open transaction has appended, and projection {projection!r} comes no further before it has "
            "committed: wait after it"
        )


class TooManyUnpublishedStreamsError(EventStoreError):
    """A publisher would park one stream more than it may: look at what they have in common; nothing was skipped."""

    def __init__(self, publisher: str, limit: int, stream_id: str, reason: str) -> None:
        self.publisher = publisher
        self.limit = limit
        self.stream_id = stream_id
        self.reason = reason
        super().__init__(
            f"publisher {publisher!r} has {limit} parked streams, and stops before it parks {stream_id!r} ({reason}): "
            "see `eventstore publisher parked`, mend the cause and `eventstore publisher unpark` them, or raise "
            "max_parked"
        )


class WrongGroupsError(ConfigurationError):
    """A publisher is split into another number of groups than is declared: nothing is published until they agree."""

    def __init__(self, publisher: str, declared: int, found: int, *, changing: bool = False) -> None:
        self.publisher = publisher
        self.declared = declared
        self.found = found
        if changing:
            problem = (
                f"is being split into {found} group(s), and that has not come to its end: run `eventstore publisher "
                f"regroup {publisher}` again, with groups={found} declared"
            )
        else:
            problem = (
                f"has {found} group(s), but {declared} declared: declare groups={found}, or stop its instances and run "
                f"`eventstore publisher regroup {publisher}`"
            )
        super().__init__(f"publisher {publisher!r} {problem}")


class NotParkedByPublisherError(EventStoreError, LookupError):
    """A stream is not among those that a publisher has parked: see `eventstore publisher parked`."""

    def __init__(self, publisher: str, stream_id: str) -> None:
        self.publisher = publisher
        self.stream_id = stream_id
        super().__init__(f"publisher {publisher!r} has not parked {stream_id!r}: see `eventstore publisher parked`")
