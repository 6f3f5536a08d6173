"""Where a read model that is fed by Kafka has come: offsets and stream versions, written in its own transactions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventstore.db.errors import translated
from eventstore.errors import LeaseLostError
from eventstore.outbox.publisher import publisher_checkpoint
from eventstore.subscriptions import Checkpoints, Leases

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from aiokafka import TopicPartition

    from eventstore.db import Database, Session
    from eventstore.subscriptions import Lease

NOWHERE: Final = -1
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
        self._consumer = consumer

    async def identity(self) -> str:
        """Return what tells this database from all others, so that those who share a group share a read model too."""
        async with self._database.connection() as connection:
            with translated(self._database.schema):
                return str(await connection.fetchval(_IDENTITY, self._database.schema))

    async def load(self) -> dict[tuple[str, int], int]:
        """Return the next offset of each topic's partition that was begun."""
        rows = await self._database.fetch("load_kafka_offsets", self._consumer)
        return {(topic, partition): offset for topic, partition, offset in rows}

    async def versions(self, stream_ids: Collection[str]) -> dict[str, int]:
        """Return the last versions taken in, of those streams of which any was."""
        rows = await self._database.fetch("load_kafka_streams", self._consumer, list(stream_ids))
        return {stream_id: version for stream_id, version in rows}  # noqa: C416 - rows are sequences, no pairs

    async def published(self, publishers: Sequence[str]) -> int:
        """Return up to where all of some publishers, by name, have published; 0 when one of them never did."""
        checkpoints = Checkpoints(self._database)
        return min([(await checkpoints.load(publisher_checkpoint(name))).position for name in publishers])

    async def move(self, session: Session, partition: TopicPartition, *, since: int, to: int) -> None:
        """Move on in a partition, inside the transaction that changes the read model.

        Raises:
            LeaseLostError: Somebody else has moved on in it: this transaction must not commit.
        """
        moved = await session.fetchrow(
            "save_kafka_offset", self._consumer, partition.topic, partition.partition, to, since
        )
        if moved is None:
            raise LeaseLostError(f"{self._consumer} {partition.topic}/{partition.partition}")

    async def note_versions(self, session: Session, versions: Mapping[str, int]) -> None:
        """Note the last versions taken in, inside the transaction that changes the read model."""
        if versions:
            await session.fetch("save_kafka_streams", self._consumer, list(versions), list(versions.values()))

    async def are_valid(self) -> bool:
        """Whether the read model is fed from Kafka, and was not built from the log since."""
        return await self._are_valid(self._database)

    async def begin(self, session: Session, lease: Lease, beginnings: Mapping[TopicPartition, int]) -> bool:
        """Begin where the read model stands, inside a transaction; return False if another instance has just done so.

        What the log has fed to it is not taken in again, and from now on the log cannot go on where that was.

        Args:
            session: The transaction, in which nobody else can change the read model.
            lease: The lease of the worker that follows the log: none of them is at work.
            beginnings: Partitions and their first offsets, for a read model that Kafka has never fed; the other
                partitions are begun when somebody reads them.

        Raises:
            LeaseLostError: The lease is not ours any more.
        """
        if await self._are_valid(session):
            return False
        if not await session.fetch("load_kafka_offsets", self._consumer):
            for partition, offset in beginnings.items():
                await self.move(session, partition, since=NOWHERE, to=offset)
        checkpoint = await Checkpoints(session).load(self._consumer)
        if checkpoint.position:
            await session.fetch("delete_kafka_streams", self._consumer)
            await session.fetch("note_kafka_streams_up_to", self._consumer, checkpoint.position)
            await Checkpoints(session).delete(self._consumer)
        await Leases(session).require(lease)  # last: it keeps the lease from being renewed until the commit
        return True

    async def _are_valid(self, session: Session) -> bool:
        if (await Checkpoints(session).load(self._consumer)).position:
            return False
        return bool(await session.fetch("load_kafka_offsets", self._consumer))
