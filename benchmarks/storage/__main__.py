"""`make bench-storage`: measures the schema's choices, and writes the figures into docs/design/storage.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncpg
from rich.console import Console

from benchmarks import machine, server
from benchmarks.storage import page
from benchmarks.storage.choices import CHOICES, chosen
from benchmarks.storage.run import Run
from eventstore.devserver import DevServerError
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT: Final = Path(__file__).parent.parent.parent
STATE: Final = ROOT / ".eventstore" / "bench"
EVENTS: Final = 1_000_000
QUICK: Final = 50_000
_SEED: Final = "EVENTSTORE_SEED"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    quick = options.state / "quick" if options.quick else None
    results = options.results or (quick or ROOT / "benchmarks") / "storage.json"
    written = options.page or (quick / "storage.md" if quick else ROOT / "docs" / "design" / "storage.md")
    failed: list[str] = []
    try:
        names = chosen(options.only)
        if not options.report:
            with server.given_or_own(options.dsn, options.state) as dsn:
                failed = asyncio.run(_measure(options, names, dsn, results, console))
        content = page.load(results)
        page.refresh(content, written)
    except (DevServerError, EventStoreError, ValueError) as error:
        console.print(f"bench-storage: {error}")
        return 1
    console.print(f"{results} and {written} are written")
    for told in page.broken(content):
        console.print(f"bench-storage: no longer so, think the conclusion over: {told}")
    if failed:
        console.print(f"bench-storage: not measured, for the reasons above: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench-storage", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", metavar="CHOICES", help=f"these, by comma: {', '.join(CHOICES)}")
    parser.add_argument("--events", type=int, help=f"events of a log ({EVENTS:,}, with --quick {QUICK:,})")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it works; figures mean little")
    parser.add_argument("--report", action="store_true", help="only write the page anew from the results")
    parser.add_argument("--results", type=Path, help="the results' file (benchmarks/storage.json)")
    parser.add_argument("--page", type=Path, help="the page (docs/design/storage.md)")
    parser.add_argument("--state", type=Path, default=STATE, help="where the server's files are: on a disk")
    parser.add_argument("--dsn", help="a running, durable server instead of our own; its user may run CHECKPOINT")
    parser.add_argument("--seed", type=int, default=int(os.environ.get(_SEED, "0")) or random.randrange(1, 2**31))
    return parser


async def _measure(
    options: argparse.Namespace, names: list[str], dsn: str, results: Path, console: Console
) -> list[str]:
    """Measure the choices, one after the other, and return those that failed: a long run goes on with the next."""
    described = await machine.describe(dsn)
    events = options.events or (QUICK if options.quick else EVENTS)
    databases = await asyncio.to_thread(server.Databases, dsn, f"storage{os.getpid()}" if options.dsn else "storage")
    console.print(
        f"{described['cpu']}, {described['cores']} cores; PostgreSQL {described['postgresql']}; {events:,} events; "
        f"seed {options.seed}"
    )
    about = {"events": events, "rounds": options.rounds, "seed": options.seed, "quick": options.quick}
    failed = []
    with console.status("") as status:
        async with databases.fresh() as made:
            connection = await _connected(made)
            run = Run(made, connection, events, options.rounds, random.Random(options.seed), status.update)
            for name in names:
                began = time.monotonic()
                try:
                    finding = await CHOICES[name](run)
                except Exception:  # noqa: BLE001 - it is shown, and the command fails in the end
                    console.print_exception()
                    failed.append(name)
                    if connection.is_closed():
                        break
                    continue
                page.merge(results, finding, described, about)
                console.print(f"{name}: {time.monotonic() - began:.0f} s")
            await connection.close()
    await asyncio.to_thread(databases.close)
    return failed


async def _connected(dsn: str) -> Any:
    """Connect. Commits do not wait for the disk here: it costs every variant the same, and hides what differs."""
    return await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"}, command_timeout=None)


if __name__ == "__main__":
    sys.exit(main())
