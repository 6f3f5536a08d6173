"""`make bench-histories`: holds the libraries to the history checker, and writes what it finds into docs/history.md."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console

from benchmarks import machine, marked, server
from benchmarks.peers.environments import LIBRARIES, CannotBeHadError, Library, environment
from benchmarks.peers.histories.playing import APPENDS
from eventstore.devserver import DevServerError
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers.histories.judging import Judged

ROOT: Final = Path(__file__).parent.parent.parent.parent
STATE: Final = ROOT / ".eventstore" / "bench"
_SEED: Final = "EVENTSTORE_SEED"
_SECONDS: Final = 900
_BY_MODULE: Final = {library.module: library for library in LIBRARIES}


class PlayFailedError(Exception):
    """A library's process failed; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """A library in one of the ways in which it is followed; the framework itself has no `library`."""

    module: str
    variant: str

    @property
    def library(self) -> Library | None:
        """Which one."""
        return _BY_MODULE.get(self.module)

    @property
    def label(self) -> str:
        """How the table names it."""
        return "this framework" if self.library is None else f"`{self.library.name}` {self.library.version}"

    def play(self, dsn: str, seed: int, appends: int) -> dict[str, Any]:
        """Play in the library's own environment, and return what it wrote.

        Raises:
            CannotBeHadError: The library cannot be installed here.
            PlayFailedError: Its process failed.
        """
        python, variables = (Path(sys.executable), {}) if self.library is None else environment(self.library)
        told = [self.module, self.variant, dsn, str(seed), str(appends)]
        try:
            done = subprocess.run(
                [python, "-m", "benchmarks.peers.histories.process", *told],
                cwd=ROOT,
                env=os.environ | variables,
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:  # its message has the address of the database, and so a password
            raise PlayFailedError(f"it was not done within {_SECONDS} s") from None
        if done.returncode:
            said = done.stderr.strip().splitlines() or ["nothing"]
            raise PlayFailedError(f"its process ended with {done.returncode}: {said[-1][:300]}")
        played: dict[str, Any] = json.loads(done.stdout)
        return played


CONTESTANTS: Final = (
    Contestant("ours", "read_all"),
    Contestant("eventsourcing", "notification_log.select"),
    Contestant("eventsource_py", "read_all"),
    Contestant("logicblocks", "log().iterate"),
    Contestant("message_db", "read_category, one category"),
    Contestant("message_db", 'read("$all"), four categories'),
    Contestant("oop_es_pg", "no log"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    try:
        contestants = _chosen(options.only)
        with server.given_or_own(options.dsn, options.state) as dsn:
            block = asyncio.run(_measure(options, contestants, dsn, console))
    except (DevServerError, EventStoreError, ValueError) as error:
        console.print(f"bench-histories: {error}")
        return 1
    if options.only and options.page is None:
        print(block)  # noqa: T201 - a table of some of them takes no place of one of all
        return 0
    page = options.page or ROOT / "docs" / "history.md"
    marked.refresh(page, {"histories": block})
    console.print(f"{page} is written")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-histories", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", metavar="MODULES", help=f"these, by comma: ours, {', '.join(_BY_MODULE)}")
    parser.add_argument("--runs", type=int, default=5, help="runs of each, with a seed each (5)")
    parser.add_argument("--appends", type=int, default=APPENDS, help=f"appends of each writer ({APPENDS})")
    parser.add_argument("--page", type=Path, help="the page (docs/history.md; with --only none: the table is printed)")
    parser.add_argument("--state", type=Path, default=STATE, help="where the server's files are: on a disk")
    parser.add_argument("--dsn", help="a running, durable server instead of our own")
    parser.add_argument("--seed", type=int, default=int(os.environ.get(_SEED, "0")) or random.randrange(1, 2**31))
    return parser


def _chosen(only: str | None) -> list[Contestant]:
    modules = {contestant.module for contestant in CONTESTANTS}
    wanted = modules if only is None else set(only.split(","))
    if unknown := wanted - modules:
        raise ValueError(f"{', '.join(sorted(unknown))}: there is none of that name, but {', '.join(sorted(modules))}")
    return [contestant for contestant in CONTESTANTS if contestant.module in wanted]


async def _measure(options: argparse.Namespace, contestants: Sequence[Contestant], dsn: str, console: Console) -> str:
    """Play all of them, in turns; return the page's block."""
    sys.path.insert(0, str(ROOT / "tests"))  # where the checker is
    from benchmarks.peers.histories.judging import Judged  # noqa: PLC0415 - it needs the line above

    described = await machine.describe(dsn)
    databases = await asyncio.to_thread(
        server.Databases, dsn, f"histories{os.getpid()}" if options.dsn else "histories"
    )
    judged = {contestant: Judged() for contestant in contestants}
    missing: dict[Contestant, str] = {}
    for seed in range(options.seed, options.seed + options.runs):
        for contestant in contestants:
            if contestant in missing:
                continue
            async with databases.fresh(migrated=contestant.library is None) as empty:
                try:
                    played = await asyncio.to_thread(contestant.play, empty, seed, options.appends)
                except (CannotBeHadError, PlayFailedError) as error:
                    missing[contestant] = str(error)
                    console.print(f"{contestant.label}: {error}")
                    continue
            judged[contestant].add(played)
            told = _verdicts(judged[contestant].found[-1:])
            console.print(f"{contestant.label}, {contestant.variant}, seed {seed}: {told}")
    await asyncio.to_thread(databases.close)
    return "\n\n".join([_table(judged, missing), *_details(judged), _about(options, described)])


def _table(judged: dict[Contestant, Judged], missing: dict[Contestant, str]) -> str:
    lines = [
        "| library | how it is followed | runs | acknowledged | conflicts | events | reads | found wrong, in a run |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for contestant, runs in judged.items():
        figures = [f"{runs.counts[name]:,}" for name in ("acknowledged", "conflict", "events", "reads")]
        found = [_verdicts(runs.found)] if runs.found else []
        found += [f"stopped: {missing[contestant]}"] if contestant in missing else []
        cells = [contestant.label, contestant.variant, str(len(runs.found)), *figures, "; ".join(found)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _verdicts(found: Sequence[Counter[Any]]) -> str:
    """Say what was found, with the least and the most of a run."""
    kinds = dict.fromkeys(kind for one in found for kind in one)
    told = []
    for kind in kinds:
        times = sorted(one[kind] for one in found)
        told.append(f"{kind.value}: " + (f"{times[0]:,} to {times[-1]:,}" if times[0] < times[-1] else f"{times[0]:,}"))
    return "; ".join(told) or "nothing"


def _details(judged: dict[Contestant, Judged]) -> list[str]:
    """Show one example of everything that was found, and what errors said that were no conflicts."""
    lines = []
    for contestant, runs in judged.items():
        name = f"{contestant.label}, {contestant.variant}"
        lines += [f"- {name}, {verdict.value}: {text}" for verdict, text in runs.examples.items()]
        lines += [f"- {name}, {times:,} times: {reason[:200]}" for reason, times in runs.reasons.most_common(3)]
    return ["One example of each:", "\n".join(lines)] if lines else []


def _about(options: argparse.Namespace, described: dict[str, Any]) -> str:
    return fill(
        f"Runs of each, in turns: {options.runs}, seeds {options.seed} to {options.seed + options.runs - 1}, "
        f"{options.appends} appends of each writer. {described['cpu']}, {described['cores']} cores, PostgreSQL "
        f"{described['postgresql']} with fsync and synchronous_commit on, libraries on Python "
        f"{described['python_of_peers']}; commit `{described['commit']}`.",
        120,
        break_on_hyphens=False,
    )


if __name__ == "__main__":
    sys.exit(main())
