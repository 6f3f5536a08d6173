"""The feed: from records to the read model, step by step, in one membership of the group."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final

from eventstore.errors import LogMismatchError
from eventstore.kafka.arrivals import Intake, KafkaStretch, share_of
from eventstore.outbox.groups import is_one_of_several
from eventstore.projections.feeds import log_lease
from eventstore.projections.persevering import Perseverance
from eventstore.subscriptions import Leases

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aiokafka import TopicPartition

    from eventstore.db.database import ConnectionSession
    from eventstore.kafka.consuming import GroupConsumer, Records
    from eventstore.kafka.dead_letters import DeadLetters
    from eventstore.kafka.places import Places
    from eventstore.projections import ProjectionRunner
    from eventstore.projections.runs import Runs
    from eventstore.subscriptions import Progress

BATCH: Final = 2000
"""Records applied in one transaction."""

_LOOK_AGAIN: Final = 5.0
"""Seconds between two looks whether the topics are still the same ones."""

_NOTE_AGAIN: Final = 1.0
"""Seconds between two notes, at rest, of places that no record has led to."""


class Feed:
    """Fetches and applies.

    Args:
        runner: Applies events to the read model.
        consumer: Gives the records.
        places: Where the read model has come.
        runs: Notes whose the partitions are.
        progress: Hears how far that is.
        publishers: The names of the publishers that fill the topics.
        dead_letters: Where records go that are no events; without it, such a record is an error.
        on_applied: Called whenever something was applied.
    """

    def __init__(
        self,
        runner: ProjectionRunner,
        consumer: GroupConsumer,
        places: Places,
        runs: Runs,
        progress: Progress,
        *,
        publishers: Sequence[str] = (),
        dead_letters: DeadLetters | None = None,
        on_applied: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner = runner
        self._consumer = consumer
        self._places = places
        self._runs = runs
        self._progress = progress
        self._publishers = publishers
        self._dead_letters = dead_letters
        self._on_applied = on_applied
        self._perseverance: Perseverance[KafkaStretch] = Perseverance(
            runner,
            runs,
            on_done=self._note_done,
            goes_on=lambda: consumer.is_placed,  # a change of the group waits: one by one, a batch takes seconds
        )
        self._stored: dict[tuple[str, int], int] = {}
        self._intake = self._new_intake()
        self._last_positions: dict[TopicPartition, int] = {}
        self._look_again_at = 0.0
        self._note_again_at = 0.0

    async def step(self) -> None:
        """Place what was newly assigned, then fetch and apply once.

        Raises:
            ProjectionFailedError: A handler failed, and the policy is to stop.
            TooManyParkedStreamsError: More streams would have to be held back than the policy allows.
            LogMismatchError: Records are missing, or a topic is another one than it was.
            LeaseLostError: A partition or the tables were taken over; nothing was applied.
            UnavailableError: Kafka or PostgreSQL failed.
        """
        if self._consumer.needs_places:
            await self._place()
        elif self._consumer.is_placed and monotonic() >= self._look_again_at and await self._places.are_valid():
            await self._require_same_topics()
        if await self._consumer.poll(self._apply, at_most=BATCH):
            settled = self._settled()
        else:
            await self._note_passed()
            settled = await self._settled_at_rest()
        self._progress.reached(max(settled, self._progress.position))
        if self._consumer.is_placed and self._progress.state != "working":
            self._progress.enter("working")

    async def _place(self) -> None:
        if not await self._places.are_valid():
            await self._take_over()
        await self._require_same_topics()
        beginnings = await self._consumer.beginnings()
        await self._runs.begin([share_of(partition) for partition in beginnings])
        self._stored = stored = await self._places.load()
        self._intake = self._new_intake()  # others may have moved the streams of these partitions on
        self._runner.forget_parked()
        self._last_positions = {}
        await self._consumer.place(stored, beginnings)

    async def _require_same_topics(self) -> None:
        """Check that each topic is still the one that the offsets are of, and remember which one that is.

        Raises:
            LogMismatchError: A topic was deleted and made again.
        """
        self._look_again_at = monotonic() + _LOOK_AGAIN
        now = await self._consumer.topic_ids()
        for topic, topic_id in (await self._places.topic_ids()).items():
            if topic in now and now[topic] != topic_id:
                raise LogMismatchError(
                    self._runner.consumer_name,
                    f"the topic {topic!r} was deleted and made again (its id is {now[topic]}, the read model was fed "
                    f"from {topic_id}), so its offsets mean other records now: see that everything is published to it, "
                    f"then `eventstore rebuild {self._runner.projection.name}`",
                )
        self._places.know(now)

    async def _take_over(self) -> None:
        """Take the read model over from the log, once nobody feeds it from there any more."""
        runner, places = self._runner, self._places
        self._progress.enter("waiting")
        async with Leases(runner.store.database).holding(log_lease(runner.consumer_name)) as lease:
            ranges = await self._consumer.ranges()
            places.know(await self._consumer.topic_ids())

            async def begin(session: ConnectionSession) -> bool:
                return await places.begin(session, lease, ranges)

            await runner.take_over(begin)
        self._progress.enter("starting")

    async def _apply(self, records: Records) -> None:
        arrivals, dead = await self._intake.take(records)
        if dead and self._dead_letters is not None:
            await self._dead_letters.put_aside(dead)  # before the offsets move: twice is better than never
        await self._perseverance.apply(KafkaStretch(self._places, arrivals, self._stored))

    def _note_done(self, part: KafkaStretch) -> None:
        self._stored = {**self._stored, **part.offsets}
        self._intake.remember(part.versions)
        self._last_positions.update(part.positions)
        self._progress.reached(self._progress.position, events=len(part.events))
        self._on_applied()

    async def _note_passed(self) -> None:
        """At rest, note that we are past what holds no records (the ends of transactions), so that no lag is left."""
        now = monotonic()
        places = self._consumer.places
        passed = {part: place for part, place in places.items() if place > self._stored.get(part, place)}
        if not passed or now < self._note_again_at:
            return
        self._note_again_at = now + _NOTE_AGAIN
        async with self._runner.transaction() as session:
            await self._places.move(session, passed, since=self._stored)
        self._stored = {**self._stored, **passed}

    def _settled(self) -> int:
        """Return up to where nothing is left: a publisher writes each partition in the order of the log."""
        partitions = self._consumer.assigned
        if any(map(is_one_of_several, self._publishers)):
            return 0  # groups write to the same partitions, each in the order of its own part of the log
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
        return Intake(
            self._places,
            self._runner.consumer_name,
            self._runner.event_types,
            wants_stream=self._runner.projection.wants_stream,
            keeps_dead_letters=self._dead_letters is not None,
        )
