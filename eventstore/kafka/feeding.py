"""The feed: from records to the read model, step by step, in one membership of the group."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eventstore.kafka.arrivals import Intake
from eventstore.kafka.places import NOWHERE
from eventstore.projections.feeds import log_lease
from eventstore.subscriptions import Leases

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiokafka import TopicPartition

    from eventstore.db.database import ConnectionSession
    from eventstore.kafka.consuming import GroupConsumer, Records
    from eventstore.kafka.places import Places
    from eventstore.projections import ProjectionRunner
    from eventstore.subscriptions import Progress

BATCH: Final = 2000
"""Records applied in one transaction."""


class Feed:
    """Fetches and applies.

    Args:
        runner: Applies events to the read model.
        consumer: Gives the records.
        places: Where the read model has come.
        progress: Hears how far that is.
        publishers: The names of the publishers that fill the topics.
    """

    def __init__(
        self,
        runner: ProjectionRunner,
        consumer: GroupConsumer,
        places: Places,
        progress: Progress,
        publishers: Sequence[str] = (),
    ) -> None:
        self._runner = runner
        self._consumer = consumer
        self._places = places
        self._progress = progress
        self._publishers = publishers
        self._stored: dict[tuple[str, int], int] = {}
        self._intake = self._new_intake()
        self._last_positions: dict[TopicPartition, int] = {}

    async def step(self) -> None:
        """Place what was newly assigned, then fetch and apply once.

        Raises:
            ProjectionFailedError: A handler failed.
            LogMismatchError: Records are missing.
            LeaseLostError: A partition or the tables were taken over; nothing was applied.
            UnavailableError: Kafka or PostgreSQL failed.
        """
        if self._consumer.needs_places:
            await self._place()
        if await self._consumer.poll(self._apply, at_most=BATCH):
            settled = self._settled()
        else:
            settled = await self._settled_at_rest()
        self._progress.reached(max(settled, self._progress.position))
        if self._consumer.is_placed and self._progress.state != "working":
            self._progress.enter("working")

    async def _place(self) -> None:
        if not await self._places.are_valid():
            await self._take_over()
        beginnings = await self._consumer.beginnings()
        self._stored = stored = await self._places.load()
        self._intake = self._new_intake()  # others may have moved the streams of these partitions on
        self._last_positions = {}
        await self._consumer.place(stored, beginnings)

    async def _take_over(self) -> None:
        """Take the read model over from the log, once nobody feeds it from there any more."""
        runner, places = self._runner, self._places
        self._progress.enter("waiting")
        async with Leases(runner.store.database).holding(log_lease(runner.consumer_name)) as lease:
            beginnings = await self._consumer.beginnings()

            async def begin(session: ConnectionSession) -> bool:
                return await places.begin(session, lease, beginnings)

            await runner.take_over(begin)
        self._progress.enter("starting")

    async def _apply(self, records: Records) -> None:
        arrivals = await self._intake.take(records)

        async def note_places(session: ConnectionSession) -> None:
            for partition, offset in arrivals.offsets.items():
                since = self._stored.get(partition, NOWHERE)
                await self._places.move(session, partition, since=since, to=offset)
            await self._places.note_versions(session, arrivals.versions)

        await self._runner.apply(arrivals.events, session_hook=note_places)
        self._stored.update(arrivals.offsets)
        self._intake.remember(arrivals)
        self._last_positions.update(arrivals.positions)
        self._progress.reached(self._progress.position, events=len(arrivals.events))

    def _settled(self) -> int:
        """Return up to where nothing is left: a publisher writes each partition in the order of the log."""
        partitions = self._consumer.assigned
        if not partitions or not partitions <= self._last_positions.keys():
            return 0
        return min(self._last_positions[partition] for partition in partitions)

    async def _settled_at_rest(self) -> int:
        """Return the same when there was nothing to fetch: at the ends of all partitions it is what was published."""
        # In this order: what a publisher's mirror vouches for is in Kafka before the ends are asked for.
        published = await self._places.published(self._publishers) if self._publishers else self._newest()
        if published > self._progress.position and not self._consumer.has_consumed(await self._consumer.ends()):
            return 0
        return published

    def _newest(self) -> int:
        return max(self._last_positions.values(), default=0)

    def _new_intake(self) -> Intake:
        return Intake(self._places, self._runner.consumer_name, self._runner.event_types)
