"""The demo: a real log through the whole framework, on servers of its own or on yours.

    commands --> events in PostgreSQL --> publisher --> Kafka --> projector --> read models in PostgreSQL
                        |
                        +--> snapshot manager --> snapshots, which the next command loads

All of it runs in this process, side by side, as it could in a service.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console

from eventstore import EventStore
from eventstore.db.migrating import migrate
from eventstore.devserver import DevServerError, parse_kafka_source, parse_postgres_source, provision
from eventstore.devserver.progress import RichProgress
from eventstore.errors import EventStoreError
from examples.loans import make_app
from examples.loans.application import RefusedError
from examples.loans.folding import fold
from examples.loans.pipeline import run_through
from examples.loans.rows import Row, read_rows
from examples.loans.screen import section, show_figures, show_stages

if TYPE_CHECKING:
    from eventstore.devserver import Provisioned

T = TypeVar("T")

STATE: Final = Path(".eventstore/demo")
"""Where embedded servers keep their data, below the working directory, so that a second run finds it."""

CONNECTIONS: Final = 20
STOPPED: Final = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class Size:
    """How much of the log runs, and where: each size has a database and topics of its own, even on shared servers."""

    title: str
    limit: int | None
    database: str
    topic_prefix: str


FULL: Final = Size("262,200 events of 13,087 loan applications", None, "loans_demo", "demo-")
SMALL: Final = Size("the first 10,000 events, of 789 loan applications", 10_000, "loans_demo_small", "demo-small-")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit code: 0 when all figures agree."""
    options = _parser().parse_args(arguments)
    size = SMALL if options.small else FULL
    console = Console()
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it warns of each broker that is still waking up
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends it as Ctrl-C does
    try:
        console.print(f"[bold]BPI Challenge 2012: {size.title}[/]", highlight=False)
        postgres = parse_postgres_source(options.postgres) if options.postgres else None
        kafka = parse_kafka_source(options.kafka) if options.kafka else None
        with provision(postgres, kafka, state_dir=STATE.absolute(), progress=RichProgress(console)) as servers:
            return _demonstrate(console, servers, size)
    except (EventStoreError, DevServerError, RefusedError, asyncpg.PostgresError, OSError) as error:
        console.print(f"[bold red]{type(error).__name__}:[/] {error}", highlight=False)
        return 1
    except (KeyboardInterrupt, asyncio.CancelledError):
        console.print("Stopped. What was done is kept: run it again, and it goes on from there.")
        return STOPPED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m examples.loans", description=__doc__.partition("\n")[0])
    parser.add_argument("--small", action="store_true", help="only the first 10,000 events: under half a minute")
    parser.add_argument("--postgres", help="embedded, docker or postgresql://… (default: EVENTSTORE_POSTGRES)")
    parser.add_argument("--kafka", help="embedded, docker, none or host:port (default: EVENTSTORE_KAFKA)")
    return parser


def _demonstrate(console: Console, servers: Provisioned, size: Size) -> int:
    database = size.database
    if servers.kafka_bootstrap is None:
        console.print("Without Kafka nothing is published, and the read models are built straight from the log.")
        database += "_without_kafka"  # a read model is fed from one side for all its life
    dsn = urlsplit(servers.postgres_dsn)._replace(path=f"/{database}").geturl()
    rows = list(read_rows(size.limit))

    async def run() -> bool:
        await _create_database(servers.postgres_dsn, database)
        await migrate(dsn)
        app = make_app(topic_prefix=size.topic_prefix)
        async with EventStore.open(dsn, app, pool_size=CONNECTIONS) as store:
            stages, figures = await run_through(console, app, store, rows, kafka=servers.kafka_bootstrap)
        show_stages(console, stages)
        return show_figures(console, figures, fold(rows), published=size is FULL)

    agree = _run_stoppable(run())
    replayed = _replay(console, dsn, rows)
    return 0 if agree and replayed else 1


def _run_stoppable(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine; SIGTERM cancels it, as Ctrl-C does."""

    async def stoppable() -> T:
        task = asyncio.ensure_future(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(stoppable())
    finally:
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # the loop has put the system's own back


async def _create_database(dsn: str, database: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        if not await connection.fetchval("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database):
            await connection.execute(f'CREATE DATABASE "{database}"')
    finally:
        await connection.close()


def _replay(console: Console, dsn: str, rows: Sequence[Row]) -> bool:
    """Show the application with the longest story as it was at a version and at a time, as an operator would."""
    environment = {**os.environ, "EVENTSTORE_DSN": dsn}
    longest = max(rows, key=lambda row: row.step)
    story = [row for row in rows if row.application == longest.application]
    early, later = story[len(story) // 4], story[len(story) // 2]
    section(console, f"Application {longest.application}, which has {len(story)} events, as it was")
    for moment in (["--version", str(early.step)], ["--at", later.at.isoformat(timespec="milliseconds")]):
        command = ["--app", "examples.loans:app", "replay", f"application-{longest.application}", *moment]
        console.print(f"\n[bold]$ eventstore {shlex.join(command)}[/]", highlight=False, soft_wrap=True)
        sys.stdout.flush()
        shown = subprocess.run([sys.executable, "-m", "eventstore.cli", *command], env=environment, check=False)  # noqa: S603 - our own CLI
        if shown.returncode != 0:
            return False
    return True
