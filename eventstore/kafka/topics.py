"""Topics: made with the settings that events need, and refused when they would lose or reorder them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAlreadyExistsError, for_code

from eventstore.errors import MissingTopicError, TopicConfigurationError, UnavailableError
from eventstore.kafka.answers import answer, answer_of_any, closed, connected, failure, translated
from eventstore.lifecycle import Backoff

if TYPE_CHECKING:
    from datetime import timedelta

    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Publisher

FOR_EVER: Final = -1
MAX_MESSAGE_BYTES: Final = 2 * 1024 * 1024
"""What topics of our own accept: the store's largest payload, twice, so that headers and metadata have room."""

_CLUSTER_DEFAULT: Final = -1

DEAD_LETTERS: Final[Mapping[str, str]] = {
    "cleanup.policy": "delete",
    "retention.ms": str(FOR_EVER),
    "max.message.bytes": str(4 * MAX_MESSAGE_BYTES),  # whatever fits a topic of our own, and where it came from
}

CURSOR_TOPIC: Final[Mapping[str, str]] = {
    # A start reads the topic from its end; small segments that are cleaned soon keep the way to the last record short.
    # No record can be larger than a segment.
    "cleanup.policy": "compact",
    "segment.bytes": str(MAX_MESSAGE_BYTES),
    "segment.ms": "60000",
    "delete.retention.ms": "1000",
    "min.cleanable.dirty.ratio": "0.01",
    "max.message.bytes": str(MAX_MESSAGE_BYTES),
}

_CURSOR_CLEANING: Final = ("segment.bytes", "segment.ms", "delete.retention.ms", "min.cleanable.dirty.ratio")
"""What decides how long outdated cursors, and the ends of their transactions, lie before the last one."""

_CURSOR_AT_MOST: Final = 10
"""So many times what we make it with may each of these be. With a broker's defaults the topic grows without need, and
with it the time that a publisher takes to start."""


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic that exists.

    Attributes:
        name: Its name.
        partitions: How many partitions it has.
        settings: Its settings, as the broker writes them.
    """

    name: str
    partitions: int
    settings: Mapping[str, str]

    @property
    def max_message_bytes(self) -> int:
        """The largest record batch that it accepts, in bytes."""
        return int(self.settings["max.message.bytes"])


class Topics:
    """Looks topics up, and makes them. Made by `opened_topics`."""

    def __init__(self, admin: AIOKafkaAdminClient, answer_within: float) -> None:
        self._admin = admin
        self._within = answer_within

    async def find(self, name: str) -> Topic | None:
        """Return a topic as it is now; None when there is none.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        # All topics are asked for: a question for one by name makes it, on a broker with auto.create.topics.enable.
        every = await answer_of_any(self._admin.describe_topics, "listing topics", self._within)
        for found in every:
            if found["topic"] == name:
                return Topic(name, len(found["partitions"]), await self._settings_of(name))
        return None

    async def for_events(self, name: str, publisher: Publisher) -> Topic:
        """Return a topic that keeps what is published to it, made if the publisher may make it.

        Raises:
            MissingTopicError: It does not exist, and the publisher was told not to create it.
            TopicConfigurationError: It would lose events.
            UnavailableError: Kafka does not answer.
        """
        topic = await self.find(name)
        if topic is None:
            if not publisher.create_topics:
                raise MissingTopicError(name)
            settings = {
                "cleanup.policy": "delete",
                "retention.ms": str(_milliseconds(publisher.retention)),
                "retention.bytes": str(FOR_EVER),
                "max.message.bytes": str(MAX_MESSAGE_BYTES),
            }
            topic = await self._create(name, publisher.partitions, publisher.replication_factor, settings)
        _require_fit_for_events(topic, publisher.retention)
        return topic

    async def for_cursor(self, name: str, publisher: Publisher) -> Topic:
        """Return a topic for cursors of a publisher's, made if need be: without one nothing can be published.

        Raises:
            TopicConfigurationError: It is not what a cursor needs.
            UnavailableError: Kafka does not answer.
        """
        topic = await self.find(name)
        if topic is None:
            topic = await self._create(name, 1, publisher.replication_factor, CURSOR_TOPIC)
        _require_fit_for_cursor(topic)
        return topic

    async def for_dead_letters(self, name: str) -> Topic:
        """Return a topic for records that are no events, made if need be.

        Raises:
            TopicConfigurationError: The broker refuses to make it.
            UnavailableError: Kafka does not answer.
        """
        return await self.find(name) or await self._create(name, 1, None, DEAD_LETTERS)

    async def _create(
        self, name: str, partitions: int, replication_factor: int | None, settings: Mapping[str, str]
    ) -> Topic:
        wanted = NewTopic(name, partitions, 1, topic_configs=dict(settings))
        wanted.replication_factor = replication_factor or _CLUSTER_DEFAULT  # its constructor refuses the default
        response = await answer(self._admin.create_topics([wanted]), f"creating {name!r}", self._within)
        for _, code, *message in response.topic_errors:
            error = for_code(code)
            if code and error is not TopicAlreadyExistsError:
                if getattr(error, "retriable", False):
                    raise UnavailableError(f"Kafka failed: {error.__name__} (creating {name!r})")
                raise TopicConfigurationError(name, f"the broker refuses to create it: {error.__name__} {message}")
        return await self._listed(name)

    async def _listed(self, name: str) -> Topic:
        """Return a topic that was made, once the broker that is asked has heard of it from its controller."""
        backoff = Backoff(first=0.02, most=0.2)
        try:
            async with asyncio.timeout(self._within):
                while (topic := await self.find(name)) is None:
                    await backoff.wait()
        except TimeoutError:
            raise UnavailableError(f"Kafka has created the topic {name!r}, but does not list it yet") from None
        return topic

    async def _settings_of(self, name: str) -> Mapping[str, str]:
        question = ConfigResource(ConfigResourceType.TOPIC, name)
        (response,) = await answer_of_any(
            lambda: self._admin.describe_configs([question]), f"describing {name!r}", self._within
        )
        code, _, _, _, entries = response.resources[0]
        if code:
            raise failure(for_code(code), f"describing {name!r}")
        return {entry[0]: entry[1] for entry in entries}


@asynccontextmanager
async def opened_topics(settings: KafkaSettings) -> AsyncIterator[Topics]:
    """Connect to the cluster for the length of the block.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    with translated("connecting"):
        admin: Any = AIOKafkaAdminClient(**settings.client_options())
    try:
        await connected(admin.start(), settings)
        yield Topics(admin, settings.answer_within)
    finally:
        await closed(admin.close())


def _milliseconds(retention: timedelta | None) -> int:
    return FOR_EVER if retention is None else int(retention.total_seconds() * 1000)


def _require_fit_for_events(topic: Topic, retention: timedelta | None) -> None:
    if "compact" in topic.settings["cleanup.policy"]:
        raise TopicConfigurationError(
            topic.name,
            "it is compacted, which would keep only the last event of each stream: set cleanup.policy=delete",
        )
    wanted, found = _milliseconds(retention), int(topic.settings["retention.ms"])
    if found != FOR_EVER and (wanted == FOR_EVER or found < wanted):
        raise TopicConfigurationError(
            topic.name,
            f"it deletes events after {found} ms: set retention.ms={wanted}, or declare Publisher(retention=...) if "
            "that is meant",
        )
    if int(topic.settings["retention.bytes"]) != FOR_EVER:
        raise TopicConfigurationError(
            topic.name, f"it deletes events above {topic.settings['retention.bytes']} bytes: set retention.bytes=-1"
        )


def _require_fit_for_cursor(topic: Topic) -> None:
    if topic.partitions != 1:
        raise TopicConfigurationError(topic.name, f"a cursor needs one partition, it has {topic.partitions}")
    if topic.settings["cleanup.policy"] != "compact":
        raise TopicConfigurationError(
            topic.name,
            f"its cleanup.policy is {topic.settings['cleanup.policy']!r}, which would delete the cursor: set it to "
            "'compact'",
        )
    for setting in ("max.message.bytes", "segment.bytes"):
        if int(topic.settings[setting]) < MAX_MESSAGE_BYTES:
            raise TopicConfigurationError(
                topic.name,
                f"its {setting} is {topic.settings[setting]}, and a cursor with many parked streams is larger: set "
                f"{setting}={MAX_MESSAGE_BYTES}",
            )
    seldom = {
        setting: CURSOR_TOPIC[setting]
        for setting in _CURSOR_CLEANING
        if float(topic.settings[setting]) > _CURSOR_AT_MOST * float(CURSOR_TOPIC[setting])
    }
    if seldom:
        found = {setting: topic.settings[setting] for setting in seldom}
        raise TopicConfigurationError(
            topic.name,
            f"it is cleaned too seldom ({_written(found)}), so it grows, and publishers start slowly: set "
            f"{_written(seldom)}",
        )


def _written(settings: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in settings.items())
