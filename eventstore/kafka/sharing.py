"""Sharing: the instances of a publisher that has several groups share them out evenly, and hand them over in order.

    each instance keeps a lease of its own, which says that it lives; ordered by name, instance i of n has a share of
    groups // n, and one more if i < groups % n

    fewer groups than its share --> takes those whose leases are free
    more than its share         --> hands over, one after the other: the transaction under way is finished, the lease
                                    released, and whoever lacks one takes it at its next look

No two instances need to see the same share at the same time: the group's lease says who works, and the broker fences
whoever still believes that it is he.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from typing_extensions import override

from eventstore.errors import EventStoreError
from eventstore.kafka.group_worker import LONGEST_BACKOFF, GroupWorker
from eventstore.lifecycle import Backoff, ended
from eventstore.subscriptions import Checkpoints, Progress
from eventstore.subscriptions.leases import new_owner

if TYPE_CHECKING:
    from eventstore.kafka.packing import Ways
    from eventstore.kafka.settings import KafkaSettings
    from eventstore.outbox import Group, Publisher
    from eventstore.store import EventStore
    from eventstore.subscriptions import Lease, Leases

log = logging.getLogger(__name__)

MEMBER = "/member/"
"""Between the name of a publisher and that of an instance, in the name of the instance's lease."""


class Sharing:
    """One instance among those that share a publisher's groups.

    Args:
        store: The store.
        publisher: The publisher.
        settings: How to reach Kafka.
        leases: The leases.
        progress: Hears how far the last group has come.
    """

    def __init__(
        self, store: EventStore, publisher: Publisher, settings: KafkaSettings, leases: Leases, progress: Progress
    ) -> None:
        self._store = store
        self._leases = leases
        self._progress = progress
        self._name = publisher.name
        self._members = f"{publisher.checkpoint_name}{MEMBER}"
        self._owner = new_owner()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        ways: Ways = {}  # one for all: what a process remembers must not grow with the groups it works for
        self._workers = {
            group.checkpoint_name: GroupWorker(store, group, settings, GroupProgress(group, self._gather), ways)
            for group in publisher.all_groups()
        }
        self._elsewhere = dict.fromkeys(self._workers, 0)
        self._events = 0

    @property
    def groups(self) -> Mapping[str, Progress]:
        """How far each group has come that this instance works for, by the names of their checkpoints."""
        return {name: worker.progress for name, worker in self._workers.items()}

    @property
    def groups_held(self) -> int:
        """For how many groups this instance works now."""
        return len(self._tasks)

    async def run(self) -> None:
        """Take part until cancelled.

        Raises:
            EventStoreError: What no retry can mend; see `GroupWorker.work`.
        """
        backoff = Backoff(most=LONGEST_BACKOFF)
        while True:
            try:
                async with self._leases.holding(f"{self._members}{self._owner}"):
                    await self._take_part(backoff)
            except EventStoreError as error:
                if not error.retryable:
                    raise
                log.warning("an instance of publisher %s starts over: %s", self._name, error)
            finally:
                await self._stop()
            await backoff.wait()

    async def _take_part(self, backoff: Backoff) -> None:
        database = self._store.database
        while True:
            await database.fetch("delete_ended_leases", self._members)
            held = {row[0] for row in await database.fetch("list_leases") if row[3] > 0}
            share = self._share_among(held)
            await self._hand_over(list(self._tasks)[share:])
            await self._take([name for name in self._workers if name not in held], share - len(self._tasks))
            await self._look_elsewhere()
            backoff.reset()
            if self._tasks:
                await asyncio.wait(
                    self._tasks.values(), timeout=self._leases.look_again, return_when=asyncio.FIRST_COMPLETED
                )
            else:
                await asyncio.sleep(self._leases.look_again)
            self._bury()

    def _share_among(self, held: set[str]) -> int:
        """Return how many groups are this instance's, among those that live."""
        own = f"{self._members}{self._owner}"
        members = sorted({own, *(name for name in held if name.startswith(self._members))})
        whole, rest = divmod(len(self._workers), len(members))
        return whole + (members.index(own) < rest)

    async def _take(self, free: Sequence[str], wanted: int) -> None:
        for name in free:
            if wanted <= 0:
                return
            lease = await self._leases.try_acquire(name, new_owner())
            if lease is not None:
                self._tasks[name] = asyncio.create_task(self._work_for(name, lease))
                wanted -= 1

    async def _work_for(self, name: str, lease: Lease) -> None:
        worker = self._workers[name]
        try:
            await worker.work(self._leases.keeping(lease))
        except EventStoreError as error:
            worker.progress.fail(error)  # it is this group's, whoever else ends with it
            raise

    async def _hand_over(self, names: Sequence[str]) -> None:
        for name in names:
            await ended(self._tasks.pop(name))
            self._workers[name].progress.enter("waiting")

    def _bury(self) -> None:
        """Give up the groups whose work has ended; raises what no retry can mend."""
        for name in [name for name, task in self._tasks.items() if task.done()]:
            self._tasks.pop(name).result()

    async def _stop(self) -> None:
        """End all own work at once."""
        tasks, self._tasks = list(self._tasks.values()), {}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for worker in self._workers.values():
            if worker.progress.failure is None:
                worker.progress.enter("stopped")

    # --- how far all of them have come ----------------------------------------------------------------------------

    async def _look_elsewhere(self) -> None:
        """Learn from the mirrors how far groups have come that others work for."""
        for name, checkpoint, _ in await Checkpoints(self._store.database).list():
            if name in self._elsewhere:
                self._elsewhere[name] = checkpoint.position
        self._gather()

    def _gather(self) -> None:
        own = {name: worker.progress for name, worker in self._workers.items()}
        states = [own[name].state for name in self._tasks]
        self._progress.state = "working" if "working" in states else "starting" if states else "waiting"
        events = sum(progress.events for progress in own.values())
        position = min(max(self._elsewhere[name], progress.position) for name, progress in own.items())
        self._progress.reached(position, events=events - self._events)
        self._events = events


class GroupProgress(Progress):
    """The progress of one group, which tells whenever it has moved."""

    def __init__(self, group: Group, moved: Callable[[], None]) -> None:
        super().__init__(f"group {group.name!r}")
        self._tell = moved

    @override
    def reached(self, position: int, *, events: int = 0) -> None:
        """Note where the worker is."""
        super().reached(position, events=events)
        self._tell()
