"""What feeds a read model: the log, or Kafka; never both at once, and the way from one to the other.

                        checkpoint   places in Kafka
    never fed               -               -         either may begin
    fed from the log       yes              -         Kafka may take over, once no worker follows the log
    fed from Kafka          -              yes        the log cannot go on: how far Kafka has come is no position
    rebuilt meanwhile      yes             yes        either may go on: Kafka where it was, less what is built in

Whoever goes from one line to another holds the lease of the worker that follows the log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eventstore.errors import FedByKafkaError
from eventstore.subscriptions import Checkpoints, Leases

if TYPE_CHECKING:
    from eventstore.db import Database, Session
    from eventstore.projections.projection import Projection
    from eventstore.subscriptions import Checkpoint, Lease


def log_lease(consumer: str) -> str:
    """Return the name of the lease under which a projection is fed from the log, by the projection's consumer name."""
    return f"projection:{consumer}"


async def go_on_from_log(database: Database, lease: Lease, projection: Projection) -> Checkpoint:
    """Return where the log goes on feeding a projection.

    Raises:
        FedByKafkaError: Kafka has fed it since it was last built from the log.
        LeaseLostError: The lease is not ours any more.
    """
    name = projection.consumer_name
    async with database.transaction() as session:
        checkpoint = await Checkpoints(session).load(name)
        fed = await session.fetchrow("is_fed_by_kafka", name)
        if fed is not None and fed[0]:
            if not checkpoint.position:
                raise FedByKafkaError(projection.name)
            await forget_kafka(session, name)
            await Leases(session).require(lease)  # last: it keeps the lease from being renewed until the commit
    return checkpoint


async def forget_kafka(session: Session, consumer: str) -> None:
    """Forget where Kafka has come with a projection."""
    await session.fetch("delete_kafka_offsets", consumer)
    await session.fetch("delete_kafka_streams", consumer)
