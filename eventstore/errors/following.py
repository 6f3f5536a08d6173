"""What can stop those who follow the log: projections, subscriptions, whoever waits for them."""

from __future__ import annotations

from eventstore.errors.tree import (
    CodecError,
    ConcurrencyError,
    ConfigurationError,
    EventStoreError,
    InvalidArgumentError,
    UnavailableError,
)


class LeaseLostError(ConcurrencyError):
    """Another instance holds the lease of this worker now; this one stopped before it could do harm."""

    def __init__(self, name: str, owner: str | None = None) -> None:
        self.name = name
        self.owner = owner
        held = f", {owner} holds it" if owner else ""
        super().__init__(f"the lease {name!r} was lost{held}: this worker steps back and waits its turn")


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


class LogMismatchError(EventStoreError):
    """A checkpoint does not fit the log (or Kafka lost what was published): somebody must look before work goes on."""

    def __init__(self, name: str, problem: str) -> None:
        self.name = name
        self.problem = problem
        super().__init__(f"{name!r} stopped: {problem}")


class FedByKafkaError(ConfigurationError):
    """A read model is fed from Kafka, so the log cannot go on feeding it: keep to Kafka, or rebuild it from the log."""

    def __init__(self, projection: str) -> None:
        self.projection = projection
        super().__init__(
            f"the projection {projection!r} is fed from Kafka, and where that has come is no place in the log: from "
            "here its events would be applied twice; go on with Kafka (`eventstore project --from kafka`, "
            f"workers(kafka=...)), or stop that and build it anew: `eventstore rebuild {projection}`"
        )


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


class EndedTransactionError(EventStoreError):
    """A projection's handler has ended the transaction that it runs in: what it did, and what not, is all mixed up."""

    def __init__(self, projection: str) -> None:
        self.projection = projection
        super().__init__(
            f"a handler of projection {projection!r} has ended the transaction that it runs in (COMMIT or ROLLBACK): "
            "events may be missing in the read model; take that out of the handler, then build the read model anew: "
            f"`eventstore rebuild {projection}`"
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


class ParkedElsewhereError(EventStoreError):
    """A stream is held back from another event than the one to be discarded: somebody was at work meanwhile."""

    def __init__(self, projection: str, stream_id: str, expected: int, found: int) -> None:
        self.projection = projection
        self.stream_id = stream_id
        self.expected = expected
        self.found = found
        super().__init__(
            f"projection {projection!r} holds {stream_id!r} back from version {found} on, not from {expected}: nothing "
            f"was discarded; look again with `eventstore parked show {projection} {stream_id}`"
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
