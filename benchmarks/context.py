"""What every row needs to do its work: the databases, the sizes, the rounds, and the peers that can be had."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from benchmarks.debezium.outbox import Outbox, opened_outbox
from benchmarks.debezium.relay import Debezium
from benchmarks.peers.client import CannotBeHadError, PeerFailedError, PeerProcess, UnsupportedError, running
from benchmarks.peers.environments import LIBRARIES, Library
from benchmarks.results import OURS
from benchmarks.rounds import Subject, interleave

if TYPE_CHECKING:
    import cProfile

    from benchmarks.results import Row
    from benchmarks.server import Databases


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much of everything.

    Attributes:
        seconds: How long a subject of a throughput row works in each round.
        long_stream: Events of the aggregate that is loaded by replay.
        many_appends: Appends to one stream beside an old snapshot.
        window: How many of them the first and the last are.
        imported: Rows of the bulk import.
        read: Events that are read as typed objects.
        written_by_peers: Of these, how many each peer writes itself; its tables are filled up with copies.
        big: Events of the big log.
        small: Events of the log it is held against.
        between_checkpoints: How long after a checkpoint the time between two of them begins, in seconds.
        published: Events of the backlog that is published.
        projected: Events of the log that a projection catches up on.
        paced: How long events are appended at a steady rate, in seconds.
        relayed: Events over which the memory of workers is watched.
    """

    seconds: float
    long_stream: int
    many_appends: int
    window: int
    imported: int
    read: int
    written_by_peers: int
    big: int
    small: int
    between_checkpoints: float
    published: int
    projected: int
    paced: float
    relayed: int


FULL = Sizes(
    seconds=3.0,
    long_stream=10_000,
    many_appends=100_000,
    window=1_000,
    imported=100_000,
    read=1_000_000,
    written_by_peers=25_000,
    big=10_000_000,
    small=10_000,
    between_checkpoints=24.0,
    published=200_000,
    projected=50_000,
    paced=10.0,
    relayed=1_000_000,
)
QUICK = Sizes(
    seconds=0.3,
    long_stream=1_000,
    many_appends=2_000,
    window=200,
    imported=5_000,
    read=20_000,
    written_by_peers=2_000,
    big=200_000,
    small=10_000,
    between_checkpoints=0.3,
    published=5_000,
    projected=1_000,
    paced=0.5,
    relayed=5_000,
)


@dataclass(slots=True)
class Context:
    """The run.

    Attributes:
        databases: Where databases come from.
        sizes: How much of everything.
        rounds: How many rounds count.
        chance: Draws the order of the subjects.
        tell: Says what is being done.
        directory: For files of the run.
        libraries: The peers to compare with.
        profile: When there is one, only our own subjects run, and it is on while they do.
        unavailable: Peers that cannot be had here, and why.
        kafka: The broker, for the rows that need one.
        debezium: The relay that Kafka users know.
    """

    databases: Databases
    sizes: Sizes
    rounds: int
    chance: random.Random
    tell: Callable[[str], None]
    directory: Path
    libraries: tuple[Library, ...] = LIBRARIES
    profile: cProfile.Profile | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    kafka: str = ""
    debezium: Debezium = field(default_factory=Debezium)

    async def run(self, row: Row, subjects: Mapping[str, Subject], *, warm_up: bool = True) -> None:
        """Run the subjects in rounds and give the row their figures; a peer that fails is left out and noted."""

        def left_out(name: str, error: Exception) -> None:
            row.missing[name] = str(error)

        if self.profile is not None:
            ours = {name: subject for name, subject in subjects.items() if name.startswith(OURS)} or subjects
            subjects = {name: _profiled(subject, self.profile) for name, subject in ours.items()}
        row.samples |= await interleave(
            subjects,
            rounds=self.rounds,
            chance=self.chance,
            warm_up=warm_up,
            tell=lambda what: self.tell(f"{row.name}, {what}"),
            give_up={UnsupportedError: left_out, PeerFailedError: left_out},
        )

    @asynccontextmanager
    async def peers(
        self, row: Row, ready: Callable[[PeerProcess], Awaitable[object]] | None = None
    ) -> AsyncIterator[Peers]:
        """Run every peer that can be had, each on an empty database; the row notes the others, and why.

        Args:
            row: The row that they are for.
            ready: Prepares a peer, if there is something to prepare.
        """
        async with AsyncExitStack() as stack:
            found: dict[str, PeerProcess] = {}
            for library in self.libraries:
                try:
                    if library.label in self.unavailable:
                        raise CannotBeHadError(self.unavailable[library.label])  # noqa: TRY301 - told in one place
                    self.tell(f"preparing {library.label}")
                    dsn = await stack.enter_async_context(self.databases.fresh(migrated=False))
                    peer = await stack.enter_async_context(running(library, dsn))
                    if ready is not None:
                        await ready(peer)
                except CannotBeHadError as reason:
                    self.unavailable[library.label] = row.missing[library.label] = str(reason)
                except (UnsupportedError, PeerFailedError) as reason:
                    row.missing[library.label] = str(reason)
                else:
                    found[library.label] = peer
            yield found

    @asynccontextmanager
    async def outbox(
        self, row: Row, dsn: str, topic: str, overrides: Mapping[str, str] = MappingProxyType({})
    ) -> AsyncIterator[Outbox | None]:
        """Run Debezium on an outbox table in a migrated database; None if it cannot be had, and the row notes why.

        Args:
            row: The row that it is for.
            dsn: The database.
            topic: Where the rows go.
            overrides: Settings of the connector beside the usual ones.
        """
        async with AsyncExitStack() as stack:
            outbox = None
            try:
                self.tell(f"{row.name}, preparing {self.debezium.label}")
                connect = await stack.enter_async_context(self.debezium.running(dsn, self.kafka))
                outbox = await stack.enter_async_context(opened_outbox(connect, dsn, self.kafka, topic, overrides))
            except (CannotBeHadError, PeerFailedError) as reason:
                row.missing[self.debezium.label] = str(reason)
            yield outbox


Peers = dict[str, PeerProcess]


def _profiled(subject: Subject, profile: cProfile.Profile) -> Subject:
    async def run() -> float:
        with profile:
            return await subject()

    return run


def asking(peer: PeerProcess, work: str, figure: str = "rate", **arguments: object) -> Subject:
    """Return the subject that asks a peer to do work."""

    async def subject() -> float:
        answer = await peer.ask(work, **arguments)
        return float(answer[figure])

    return subject
