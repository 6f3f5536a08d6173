"""Where a read model that is fed by Kafka has come: offsets and stream versions, written in its own transactions."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from eventstore.db import Answering, answering
from eventstore.db.errors import translated
from eventstore.errors import LeaseLostError
from eventstore.outbox import publisher_checkpoint
from eventstore.subscriptions import Checkpoints, Leases

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from uuid import UUID

    from aiokafka import TopicPartition

    from eventstore.db import Database, Session
    from eventstore.subscriptions import Lease

Range: TypeAlias = tuple[int, int]
"""The first offset that a partition holds, and the next one that it will."""

_NOWHERE: Final = -1
"""The place before the first one that is written down."""

_IDENTITY: Final = """
SELECT to_hex(system_identifier) || '.' || oid || '.' || $1::text
  FROM pg_catalog.pg_control_system(), pg_catalog.pg_database WHERE datname = current_database()
"""


class Places:
    """The places of one consumer.

    Args:
        database: The store's way to PostgreSQL.
        consumer: Its name.
    """

    def __init__(self, database: Database, consumer: str) -> None:
        self._database = database
        self._answering = Answering(database)
        self._consumer = consumer
        self._topic_ids: Mapping[str, UUID] = {}

    def know(self, topic_ids: Mapping[str, UUID]) -> None:
        """Take in which topics, by Kafka's own ids, the offsets are of that will be noted."""
        self._topic_ids = topic_ids

    async def topic_ids(self) -> dict[str, UUID]:
        """Return of which topics, by Kafka's own ids, the offsets are that are noted."""
        return dict(await self._pairs("load_kafka_topic_ids", self._consumer))

    async def identity(self) -> str:
        """Return what tells this database from all others, so that those who share a group share a read model too."""
        async with answering(), self._database.connection() as connection:
            with translated(self._database.schema):
                return str(await connection.fetchval(_IDENTITY, self._database.schema))

    async def load(self) -> dict[tuple[str, int], int]:
        """Return the next offset of each topic's partition that was begun."""
        rows = await self._answering.fetch("load_kafka_offsets", self._consumer)
        return {(topic, partition): offset for topic, partition, offset in rows}

    async def versions(self, stream_ids: Collection[str]) -> dict[str, int]:
        """Return the last versions taken in, of those streams of which any was."""
        return dict(await self._pairs("load_kafka_streams", self._consumer, list(stream_ids)))

    async def published(self, publishers: Sequence[str]) -> int:
        """Return up to where all of some publishers, by name, have published; 0 when one of them never did."""
        checkpoints = Checkpoints(self._database)
        return min([(await checkpoints.load(publisher_checkpoint(name))).position for name in publishers])

    async def move(
        self,
        session: Session,
        to: Mapping[TopicPartition, int],
        *,
        since: Mapping[tuple[str, int], int],
        versions: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        """Move on in partitions and streams, inside the transaction that changes the read model.

        Args:
            session: The transaction.
            to: The next offsets now.
            since: The next offsets before, of the partitions that were begun.
            versions: The last versions taken in of the streams that have moved.

        Raises:
            LeaseLostError: Somebody else has moved on in one of them: this transaction must not commit.
        """
        if not to:
            return
        topics = [partition.topic for partition in to]
        streams = sorted(versions)  # so that two who note the same ones wait for each other in one order
        moved = await session.fetchrow(
            "save_kafka_places",
            self._consumer,
            topics,
            [partition.partition for partition in to],
            list(to.values()),
            [since.get(partition, _NOWHERE) for partition in to],
            [self._topic_ids.get(topic) for topic in topics],
            streams,
            [versions[stream_id] for stream_id in streams],
        )
        if moved is None or moved[0] < len(to):
            raise LeaseLostError(f"{self._consumer} in {', '.join(sorted(set(topics)))}")

    async def are_valid(self) -> bool:
        """Whether the read model is fed from Kafka, and was not built from the log since."""
        return await self._are_valid(self._answering)

    async def begin(self, session: Session, lease: Lease, ranges: Mapping[TopicPartition, Range]) -> bool:
        """Begin where the read model stands, inside a transaction; return False if another instance has just done so.

        What the log has fed to it is not taken in again, and from now on the log cannot go on where that was. Where a
        topic no longer holds what would come next, or is another one, it is read from its beginning: the streams'
        versions say what of that is built in already, and whether anything is missing.

        Args:
            session: The transaction, in which nobody else can change the read model.
            lease: The lease of the worker that follows the log: none of them is at work.
            ranges: What the partitions of the topics hold.

        Raises:
            LeaseLostError: The lease is not ours any more.
        """
        if await self._are_valid(session):
            return False
        stored = {
            (topic, partition): offset
            for topic, partition, offset in await session.fetch("load_kafka_offsets", self._consumer)
        }
        known = dict(await self._pairs("load_kafka_topic_ids", self._consumer))
        again: dict[TopicPartition, int] = {}
        for partition, (first, end) in ranges.items():
            topic_id = self._topic_ids.get(partition.topic)
            if not first <= stored.get(partition, _NOWHERE) <= end or known.get(partition.topic, topic_id) != topic_id:
                again[partition] = first
        await self.move(session, again, since=stored)
        checkpoint = await Checkpoints(session).load(self._consumer)
        if checkpoint.position:
            await session.fetch("delete_kafka_streams", self._consumer)
            await session.fetch("note_kafka_streams_up_to", self._consumer, checkpoint.position)
            await Checkpoints(session).delete(self._consumer)
        await Leases(session).require(lease)  # last: it keeps the lease from being renewed until the commit
        return True

    async def _pairs(self, query: str, *args: Any) -> list[tuple[str, Any]]:
        return [(key, value) for key, value in await self._answering.fetch(query, *args)]

    async def _are_valid(self, session: Session) -> bool:
        if (await Checkpoints(session).load(self._consumer)).position:
            return False
        return bool(await session.fetch("load_kafka_offsets", self._consumer))
