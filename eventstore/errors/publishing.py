"""What can stop a publisher."""

from __future__ import annotations

from eventstore.errors.tree import ConfigurationError, EventStoreError


class MissingTopicError(ConfigurationError):
    """A Kafka topic does not exist, and the publisher was told not to make it."""

    def __init__(self, topic: str) -> None:
        self.topic = topic
        super().__init__(
            f"the Kafka topic {topic!r} does not exist: create it, or let the publisher create it (create_topics=True)"
        )


class TopicConfigurationError(ConfigurationError):
    """A Kafka topic's settings would lose or reorder events, or let it grow without need: the message names them."""

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


class MessageTooLargeError(EventStoreError):
    """An event is larger than its topic accepts: raise the topic's max.message.bytes, nothing was skipped."""

    def __init__(self, topic: str, stream_id: str, stream_version: int, size: int, limit: int) -> None:
        self.topic = topic
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.size = size
        self.limit = limit
        super().__init__(
            f"version {stream_version} of {stream_id!r} takes {size} bytes, the topic {topic!r} accepts {limit}: set "
            f"max.message.bytes={size} or more on the topic, or declare on_failure='park' to hold back this stream "
            "alone; nothing was skipped"
        )


class CursorTooLargeError(EventStoreError):
    """A publisher's cursor record would outgrow its topic: too much is parked, or it has too many topics."""

    def __init__(self, name: str, size: int, limit: int, parked: int, topics: int) -> None:
        self.name = name
        self.size = size
        self.limit = limit
        self.parked = parked
        self.topics = topics
        super().__init__(
            f"the cursor of {name!r} would take {size} bytes, and may have {limit}: it names {parked} parked streams "
            f"and {topics} topics; mend what parks streams and `eventstore publisher unpark` them, or publish to fewer "
            "topics; nothing was skipped"
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


class NotParkedByPublisherError(EventStoreError, LookupError):
    """A stream is not among those that a publisher has parked: see `eventstore publisher parked`."""

    def __init__(self, publisher: str, stream_id: str) -> None:
        self.publisher = publisher
        self.stream_id = stream_id
        super().__init__(f"publisher {publisher!r} has not parked {stream_id!r}: see `eventstore publisher parked`")


class ParkedElsewhereByPublisherError(EventStoreError):
    """A publisher holds a stream from another event than the one to be discarded: somebody was at work meanwhile."""

    def __init__(self, publisher: str, stream_id: str, expected: int, found: int) -> None:
        self.publisher = publisher
        self.stream_id = stream_id
        self.expected = expected
        self.found = found
        super().__init__(
            f"publisher {publisher!r} holds {stream_id!r} from version {found} on, not from {expected}: nothing was "
            f"discarded; look again with `eventstore publisher show {publisher} {stream_id}`"
        )
