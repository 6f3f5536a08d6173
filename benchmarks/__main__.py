"""`make bench`: measures the rows, merges them into the results' file and writes the report."""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console

from benchmarks import machine, report, results, server
from benchmarks.context import FULL, QUICK, Context
from benchmarks.debezium.relay import Debezium
from benchmarks.peers.environments import LIBRARIES, Library
from benchmarks.profiling import profiled
from benchmarks.works import WORKS, big, chosen
from eventstore.devserver import DevServerError, start_kafka
from eventstore.errors import EventStoreError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROOT: Final = Path(__file__).parent.parent
STATE: Final = ROOT / ".eventstore" / "bench"
DEBEZIUM: Final = "debezium"
"""The peer of the rows with Kafka, as `--peers` calls it."""
_SEED: Final = "EVENTSTORE_SEED"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    results_file, docs = _places(options)
    failed: list[str] = []
    try:
        if not options.report:
            rows = _rows(options)
            for kafka in (False, True):
                names = [name for name in rows if WORKS[name].kafka is kafka]
                if names:
                    with _servers(options, names, console, kafka=kafka) as servers:
                        failed += asyncio.run(_measure(options, names, servers, results_file, console))
        if options.profile is None and results_file.exists():
            report.write(results.load(results_file), docs)
            console.print(f"{results_file} and {docs / 'benchmarks.md'} are written")
    except (DevServerError, EventStoreError, ValueError) as error:
        console.print(f"bench: {error}")
        return 1
    if failed:
        console.print(f"bench: not measured, for the reasons above: {', '.join(failed)}")
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--only", metavar="ROWS", help=f"these rows, by comma: {', '.join(WORKS)}")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count (5)")
    parser.add_argument("--quick", action="store_true", help="small counts, to see that it works; figures mean nothing")
    parser.add_argument("--without-big", action="store_true", help="without the rows at 10,000,000 events (6 GB)")
    parser.add_argument("--peers", metavar="NAMES", help=f"these peers, by comma, or none; {DEBEZIUM} is one")
    parser.add_argument("--profile", metavar="ROW", help="profile our side of a row, write no results")
    parser.add_argument("--report", action="store_true", help="only write the report anew from the results")
    parser.add_argument("--results", type=Path, help="the results' file (benchmarks/results.json)")
    parser.add_argument("--docs", type=Path, help="where the report goes (docs)")
    parser.add_argument("--state", type=Path, default=STATE, help="where the server's files are: on a disk")
    parser.add_argument("--dsn", help="a running, durable server instead of our own; its user is a superuser")
    parser.add_argument("--kafka", help="a running broker instead of our own, host:port")
    parser.add_argument("--seed", type=int, default=int(os.environ.get(_SEED, "0")) or random.randrange(1, 2**31))
    return parser


def _places(options: argparse.Namespace) -> tuple[Path, Path]:
    """Return where results and report go; quick ones never in the place of real ones."""
    quick = options.state / "quick" if options.quick else None
    return (
        options.results or (quick / "results.json" if quick else ROOT / "benchmarks" / "results.json"),
        options.docs or (quick or ROOT / "docs"),
    )


def _rows(options: argparse.Namespace) -> list[str]:
    if options.profile is not None:
        return chosen(options.profile)
    rows = chosen(options.only)
    if options.only is None and options.without_big:
        rows = [name for name in rows if not WORKS[name].big]
    return rows


@dataclass(frozen=True, slots=True)
class Servers:
    """What runs for a group of rows: PostgreSQL, and a broker if they need one."""

    dsn: str
    kafka: str = ""


@contextmanager
def _servers(options: argparse.Namespace, rows: Sequence[str], console: Console, *, kafka: bool) -> Iterator[Servers]:
    """Have a durable server for as long as the block lasts, and a broker if that is what the rows need."""
    with ExitStack() as stack:
        address = ""
        if kafka:
            address = options.kafka or stack.enter_context(start_kafka(options.state / "kafka")).bootstrap
        if options.dsn:
            dsn = options.dsn
        elif kafka:
            dsn = stack.enter_context(server.start(options.state / "decoded", server.DECODED)).dsn
        else:
            if any(WORKS[name].big for name in rows):
                _fill_big_log(options, console)
            dsn = stack.enter_context(server.start(options.state)).dsn
        yield Servers(dsn, address)


def _fill_big_log(options: argparse.Namespace, console: Console) -> None:
    """Fill the big log if it is not there, on a server that need not be durable for that."""
    events = (QUICK if options.quick else FULL).big
    with server.start(options.state, server.FILLING) as running:
        databases = server.Databases(running.dsn)
        with console.status("filling the big log") as status:
            asyncio.run(big.fill(databases, events, status.update))


async def _measure(
    options: argparse.Namespace, rows: Sequence[str], servers: Servers, results_file: Path, console: Console
) -> list[str]:
    """Measure the rows, one after the other, and return those that failed: a long run goes on with the next."""
    failed = []
    described = await machine.describe(servers.dsn)
    name = f"bench{os.getpid()}" if options.dsn else "bench"
    databases = await asyncio.to_thread(server.Databases, servers.dsn, name)
    console.print(
        f"{described['cpu']}, {described['cores']} cores; PostgreSQL {described['postgresql']}; seed {options.seed}"
    )
    with console.status("") as status, tempfile.TemporaryDirectory(prefix="bench-") as directory:
        context = Context(
            databases=databases,
            sizes=QUICK if options.quick else FULL,
            rounds=options.rounds,
            chance=random.Random(options.seed),
            tell=status.update,
            directory=Path(directory),
            libraries=_libraries(options),
            kafka=servers.kafka,
            debezium=_debezium(options),
        )
        about = {"rounds": options.rounds, "seed": options.seed, "quick": options.quick, "sizes": asdict(context.sizes)}
        for name in rows:
            began = time.monotonic()
            try:
                await server.settle(servers.dsn)
                pace = machine.pace()
                if options.profile is not None:
                    console.print(await profiled(WORKS[name].measure, context))
                    continue
                row = await WORKS[name].measure(context)
            except Exception:  # noqa: BLE001 - it is shown, and the command fails in the end
                console.print_exception()
                failed.append(name)
                continue
            ended = datetime.now(UTC).isoformat(timespec="seconds")
            took = {"seconds": round(time.monotonic() - began), "at": ended, "pace": round(pace, 1)}
            results.merge(results_file, row, described, about | took | {"commit": described["commit"]})
            console.print(report.summary(row))
    await asyncio.to_thread(databases.close)
    return failed


def _libraries(options: argparse.Namespace) -> tuple[Library, ...]:
    if options.profile is not None or options.peers == "none":
        return ()
    if options.peers is None:
        return LIBRARIES
    wanted = set(options.peers.split(",")) - {DEBEZIUM}
    unknown = wanted - {library.module for library in LIBRARIES}
    if unknown:
        raise ValueError(
            f"no peer is named {', '.join(sorted(unknown))}; there are: "
            f"{', '.join([*(library.module for library in LIBRARIES), DEBEZIUM])}"
        )
    return tuple(library for library in LIBRARIES if library.module in wanted)


def _debezium(options: argparse.Namespace) -> Debezium:
    """Have Debezium, unless it is left out: a quick run asks for it by name, because it brings a Java of its own."""
    left_out = None
    if options.peers is not None:
        left_out = None if DEBEZIUM in options.peers.split(",") else "it was not asked for"
    elif options.quick or options.profile is not None:
        left_out = f"a quick run or a profile leaves it out, unless --peers {DEBEZIUM} asks for it"
    return Debezium(options.state / "connect", left_out)


if __name__ == "__main__":
    sys.exit(main())
