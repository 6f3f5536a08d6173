"""What every choice needs to be measured, and what comes out of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks.results import Check, Samples
from benchmarks.rounds import Subject, interleave

if TYPE_CHECKING:
    from benchmarks.storage.rows import Source

BATCH: Final = 256
"""Events of one INSERT and one commit: a full batch of the group commit."""

Cell = str | float | int | None


@dataclass(slots=True)
class Run:
    """One run.

    Attributes:
        dsn: The address of a database that is this run's alone.
        connection: To it.
        events: How many events a log gets.
        rounds: How many rounds count.
        chance: Draws the order of the variants in each round.
        tell: Says what is being done.
        sources: The rows that are appended: made when they are first asked for.
    """

    dsn: str
    connection: Any
    events: int
    rounds: int
    chance: random.Random
    tell: Callable[[str], None]
    sources: dict[str, Source] = field(default_factory=dict)

    async def interleave(self, name: str, subjects: Mapping[str, Subject], *, warm_up: bool = True) -> Samples:
        """Run each subject once in each round, in an order drawn anew, after a round that does not count."""
        return await interleave(
            subjects,
            rounds=self.rounds,
            chance=self.chance,
            warm_up=warm_up,
            tell=lambda what: self.tell(f"{name}, {what}"),
        )

    async def costs(self, *statements: str) -> Costs:
        """Run statements; returns what they took, the client's round trips included."""
        before = await self.connection.fetchval("SELECT pg_current_wal_insert_lsn()")
        began = time.perf_counter()
        for statement in statements:
            await self.connection.execute(statement)
        seconds = time.perf_counter() - began
        wal = await self.connection.fetchval("SELECT pg_current_wal_insert_lsn() - $1::pg_lsn", before)
        return Costs(seconds, int(wal))

    async def has_extension(self, name: str) -> bool:
        """Make one of PostgreSQL's own extensions, if the server has it."""
        there = await self.connection.fetchval("SELECT count(*) FROM pg_available_extensions WHERE name = $1", name)
        if there:
            await self.connection.execute(f"CREATE EXTENSION IF NOT EXISTS {name}")
        return bool(there)


@dataclass(frozen=True, slots=True)
class Costs:
    """What statements took: seconds, and bytes of WAL."""

    seconds: float
    wal: int


@dataclass(slots=True)
class Table:
    """A table of the page. Figures are numbers; a figure of several rounds is their median."""

    caption: str
    columns: list[str]
    rows: list[list[Cell]]


@dataclass(slots=True)
class Finding:
    """What was found about a choice.

    Attributes:
        name: What `--only` and the page's markers call it.
        title: The choice, in words.
        tables: The figures.
        checks: What the conclusion rests on: when one no longer holds, the conclusion has to be thought over.
        samples: All rounds.
        notes: What one must know to read the figures.
    """

    name: str
    title: str
    tables: list[Table] = field(default_factory=list)
    checks: list[Check] = field(default_factory=list)
    samples: dict[str, Samples] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def at_least(self, name: str, ratios: list[float], bound: float) -> None:
        """Note that the conclusion rests on a ratio that is at least so large."""
        self.checks.append(Check(name, name, median(ratios), bound, "at least", ratios=ratios))

    def at_most(self, name: str, ratios: list[float], bound: float) -> None:
        """Note that the conclusion rests on a ratio that is at most so large."""
        self.checks.append(Check(name, name, median(ratios), bound, "at most", ratios=ratios))


def ratios(samples: Samples, over: str, under: str) -> list[float]:
    """Return the ratio of two subjects in each round."""
    return [a / b for a, b in zip(samples[over], samples[under], strict=True)]


def spread(values: list[float]) -> str:
    """Return the median and, in brackets, the least and the most of the rounds."""
    return f"{figure(median(values))} ({figure(min(values))} to {figure(max(values))})"


def figure(value: float) -> str:
    """Return a number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"  # noqa: PLR2004 - the same
