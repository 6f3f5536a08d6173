"""The memory of the workers that take events out of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks import memory
from benchmarks.broker import create_topic, topics
from benchmarks.filling import PER_STREAM, copy_streams
from benchmarks.memory import name_of
from benchmarks.results import OURS, Row

if TYPE_CHECKING:
    from benchmarks.context import Context
    from benchmarks.memory import Footprint

ROUNDS: Final = 3
"""At most: memory hardly differs between rounds, and a round takes minutes."""

AT_MOST: Final = 100
GROWTH: Final = 4


async def measure(context: Context) -> Row:
    """Measure what publisher and projectors take over many events, each in a process of its own."""
    events = context.sizes.relayed
    row = Row(
        "relay-memory",
        f"memory of publisher and projector over {events:,} events, above idle",
        "MiB",
        lower_is_better=True,
    )
    found: dict[str, list[Footprint]] = {}
    for number in range(1, min(context.rounds, ROUNDS) + 1):
        context.tell(f"{row.name}, round {number}, writing {events:,} events")
        async with (
            context.databases.fresh() as empty,
            context.databases.fresh() as full,
            topics(context.kafka) as prefix,
        ):
            await copy_streams(full, events)
            for dsn in (empty, full):
                await create_topic(context.kafka, f"{prefix}{name_of(dsn)}")
            for name, work, places in (
                ("publisher", "publish", (context.kafka, prefix)),
                ("projector, from Kafka", "project-from-kafka", (context.kafka, prefix)),
                ("projector, from the log", "project", ()),
            ):
                context.tell(f"{row.name}, round {number}: {name}")
                found.setdefault(name, []).append(await memory.of(work, empty, full, *places))
    for name, footprints in found.items():
        row.samples[f"{OURS}, {name}"] = [one.above_idle for one in footprints]
        row.judge(f"{name}: above idle, MiB", f"{name}, MiB", [one.above_idle for one in footprints], at_most=AT_MOST)
        row.judge(
            f"{name}: growth from the first half to the second, MiB",
            f"{name}, growth, MiB",
            [one.growth for one in footprints],
            at_most=GROWTH,
        )
    row.notes.append(
        f"The resident set of a process of its own that does nothing else, sampled 100 times; {events // PER_STREAM:,} "
        "streams. Idle is a worker of the same kind at rest behind an empty log."
    )
    return row
