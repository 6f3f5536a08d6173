"""The broker of a run: topics of its own, and what stands in them."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from eventstore.clock import uuid7
from eventstore.kafka import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PARTITIONS: Final = 8
"""Of every topic here: as many as a publisher gives to those that it makes."""

_SETTINGS: Final = {"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": str(2 * 1024 * 1024)}
"""As a publisher makes its topics."""


@asynccontextmanager
async def topics(bootstrap: str) -> AsyncIterator[str]:
    """Give a prefix for the names of topics, whose topics are deleted when the block ends: they are large."""
    prefix = f"bench-{uuid7()}."
    try:
        yield prefix
    finally:
        async with _admin(bootstrap) as admin:
            mine = [name for name in await admin.list_topics() if name.startswith(prefix)]
            if mine:
                await admin.delete_topics(mine)


async def create_topic(bootstrap: str, name: str) -> None:
    """Make a topic as a publisher makes it, and return when it can be written to."""
    async with _admin(bootstrap) as admin:
        await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=_SETTINGS)])
    async with watching(bootstrap, name) as watcher:
        await watcher.count()  # it is asked for until each partition has a leader who knows that


class Watcher:
    """Sees how many records a topic has; made by `watching`. It counts the markers of transactions too."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer = consumer
        self._partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]

    async def count(self) -> int:
        """Return the sum of the partitions' ends."""
        return sum((await self._consumer.end_offsets(self._partitions)).values())


@asynccontextmanager
async def watching(bootstrap: str, topic: str) -> AsyncIterator[Watcher]:
    """Watch a topic for the length of the block."""
    async with AIOKafkaConsumer(**KafkaSettings(bootstrap).client_options(), enable_auto_commit=False) as consumer:
        yield Watcher(consumer, topic)


@asynccontextmanager
async def _admin(bootstrap: str) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**KafkaSettings(bootstrap).client_options())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
