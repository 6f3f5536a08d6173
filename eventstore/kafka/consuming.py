"""A member of a consumer group whose offsets live in PostgreSQL.

Kafka only says which partitions are ours. Where to go on in them is said by the database that holds the read model:

assigned (paused at once) -> placed (offsets read from PostgreSQL, sought, resumed) -> records
    ^                                                                                    |
    +---- revoked: what is being applied may finish, what was only fetched is dropped ---+
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import OffsetOutOfRangeError
from typing_extensions import override

from eventstore.errors import LogMismatchError
from eventstore.kafka.answers import answer, closed, connected, translated
from eventstore.kafka.identities import topic_ids
from eventstore.kafka.joining import leave_at_the_end, wait_longer_for_the_group

if TYPE_CHECKING:
    from uuid import UUID

    from eventstore.kafka.settings import KafkaSettings

POLL_SECONDS: Final = 0.1
"""How long a question for records waits for some, and so how soon a new assignment is noticed."""

_HEARTBEAT_SECONDS: Final = 1.0
"""How often the group is asked whether it has changed; more often where a session is short."""

_REBALANCE_MS: Final = 10_000
"""How long a change of the group waits for a member that still applies something."""

Records = Mapping[TopicPartition, Sequence[ConsumerRecord]]
Apply = Callable[[Records], Awaitable[None]]
Revoked = Callable[[], Awaitable[None]]


async def _nothing() -> None:
    """Do nothing."""


class GroupConsumer(ConsumerRebalanceListener):  # type: ignore[misc]  # aiokafka is untyped
    """Reads the partitions that the group gives to this member. Made by `opened_consumer`."""

    def __init__(
        self, consumer: AIOKafkaConsumer, group: str, topics: Sequence[str], answer_within: float, on_revoked: Revoked
    ) -> None:
        self._consumer = consumer
        self._group = group
        self._topics = topics
        self._on_revoked = on_revoked
        self._within = answer_within
        self._unplaced: set[TopicPartition] | None = None
        self._assigned: frozenset[TopicPartition] = frozenset()
        self._consumed: dict[TopicPartition, int] = {}
        self._working = asyncio.Lock()

    # --- what the group says ---------------------------------------------------------------------------------------

    @override
    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Let what is being applied finish, so that the next member begins behind it, and let it be told."""
        self._unplaced = None
        self._assigned = frozenset()
        self._consumed = {}
        async with self._working:
            await self._on_revoked()

    @override
    def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Hold the partitions until their places are known: aiokafka must not look for offsets of its own."""
        self._assigned = frozenset(assigned)
        for partition in self._assigned:
            self._consumer.seek(partition, 0)
        self._consumer.pause(*self._assigned)
        self._unplaced = set(self._assigned)

    # --- what the worker asks --------------------------------------------------------------------------------------

    @property
    def needs_places(self) -> bool:
        """Whether partitions were assigned whose places are not known yet."""
        return bool(self._unplaced)

    @property
    def is_placed(self) -> bool:
        """Whether this member reads all that the group gave it, be that nothing."""
        return self._unplaced is not None and not self._unplaced

    @property
    def assigned(self) -> frozenset[TopicPartition]:
        """The partitions that the group gave to this member."""
        return self._assigned

    @property
    def places(self) -> Mapping[TopicPartition, int]:
        """The next offsets to be fetched of the partitions that are placed; all before them is applied."""
        return self._consumed

    async def topic_ids(self) -> Mapping[str, UUID]:
        """Return Kafka's own ids of the topics, of those that it knows.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        return await topic_ids(self._consumer._client, self._topics, self._within)  # noqa: SLF001 - nobody else asks

    async def beginnings(self) -> dict[TopicPartition, int]:
        """Return the first offsets of the partitions that wait to be placed.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        return await self._offsets(self._consumer.beginning_offsets(list(self._unplaced or ())))

    async def ranges(self) -> dict[TopicPartition, tuple[int, int]]:
        """Return what all partitions of the topics hold: their first offsets, and the next ones.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        every = [
            TopicPartition(topic, partition)
            for topic in self._topics
            for partition in self._consumer.partitions_for_topic(topic) or ()
        ]
        ends = await self._offsets(self._consumer.end_offsets(every))
        firsts = await self._offsets(self._consumer.beginning_offsets(every))
        return {partition: (first, max(first, ends[partition])) for partition, first in firsts.items()}

    async def place(self, stored: Mapping[tuple[str, int], int], beginnings: Mapping[TopicPartition, int]) -> None:
        """Go on in new partitions where the read model has come, or at their beginning where it has not begun.

        Args:
            stored: The next offsets, by topic and partition.
            beginnings: What `beginnings` returned.

        Raises:
            LogMismatchError: A topic no longer holds what comes next.
            UnavailableError: Kafka does not answer.
        """
        ends = await self._offsets(self._consumer.end_offsets(list(beginnings)))
        for partition, first in beginnings.items():
            if self._unplaced is None or partition not in self._unplaced:
                continue  # the group has changed meanwhile
            place, end = stored.get(partition, first), ends[partition]
            if not first <= place <= end:
                raise LogMismatchError(self._group, _lost(partition, place, first, end))
            with translated("seeking"):
                self._consumer.seek(partition, place)
                self._consumer.resume(partition)
            self._consumed[partition] = place
            self._unplaced.discard(partition)

    async def poll(self, apply: Apply, *, at_most: int) -> bool:
        """Fetch records and apply them, unless their partitions were revoked in between; return whether there were any.

        Args:
            apply: What to do with them; a change of the group waits for it.
            at_most: How many records to fetch.

        Raises:
            LogMismatchError: The topic no longer holds what comes next.
            UnavailableError: Kafka failed.
        """
        with translated("fetching"):
            try:
                wait_ms = int(POLL_SECONDS * 1000)
                records: Records = await self._consumer.getmany(timeout_ms=wait_ms, max_records=at_most)
            except OffsetOutOfRangeError:
                raise LogMismatchError(self._group, "a topic no longer holds what comes next") from None
        async with self._working:
            if not self._assigned.issuperset(records):
                return False
            if records:
                await apply(records)
            with translated("asking for positions"):
                for partition in self._assigned & self._consumed.keys():
                    self._consumed[partition] = await self._consumer.position(partition)
        return bool(records)

    async def ends(self) -> dict[TopicPartition, int]:
        """Return where the committed records of this member's partitions end now.

        Raises:
            UnavailableError: Kafka does not answer.
        """
        return await self._offsets(self._consumer.end_offsets(list(self._assigned)))

    def has_consumed(self, ends: Mapping[TopicPartition, int]) -> bool:
        """Whether everything before these offsets is applied, in the partitions that are still this member's."""
        return self.is_placed and all(
            self._consumed[partition] >= end for partition, end in ends.items() if partition in self._consumed
        )

    async def _offsets(self, asked: Awaitable[dict[TopicPartition, int]]) -> dict[TopicPartition, int]:
        return await answer(asked, "asking for offsets", self._within)


@asynccontextmanager
async def opened_consumer(
    settings: KafkaSettings, group: str, topics: Sequence[str], member: str, on_revoked: Revoked = _nothing
) -> AsyncIterator[GroupConsumer]:
    """Join a group for the length of the block; only committed records are read.

    Args:
        settings: How to reach Kafka.
        group: The group.
        topics: What to read.
        member: The name of whoever joins, as long as its process lives: should the broker not hear that it has left, it
            is the same member when it joins again, and need not wait until its old session is over.
        on_revoked: Called when partitions are taken away, after what was being applied has been.

    Raises:
        UnavailableError: Kafka cannot be reached.
    """
    consumer = AIOKafkaConsumer(
        **settings.client_options(),
        group_id=group,
        group_instance_id=member,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",  # every other choice moves past lost records without a word
        heartbeat_interval_ms=max(1, int(1000 * min(_HEARTBEAT_SECONDS, settings.session_timeout / 3))),
        session_timeout_ms=int(1000 * settings.session_timeout),
        rebalance_timeout_ms=_REBALANCE_MS,
    )
    wait_longer_for_the_group(consumer, _REBALANCE_MS / 1000 + settings.answer_within)
    reader = GroupConsumer(consumer, group, topics, settings.answer_within, on_revoked)
    try:
        await connected(consumer.start(), settings)
        consumer.subscribe(topics, listener=reader)
        yield reader
    finally:
        leave_at_the_end(consumer)
        await closed(consumer.stop())


def _lost(partition: TopicPartition, place: int, first: int, end: int) -> str:
    return (
        f"it has come to offset {place} of partition {partition.partition} of {partition.topic!r}, which holds "
        f"{first} to {end}: records were deleted, or the topic was made anew; rebuild the projection"
    )
