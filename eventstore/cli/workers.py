"""Running workers: `publish`, `project`, `subscribe` and `rebuild`."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from eventstore.cli.errors import WrongNameError
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.running import run, run_until_stopped
from eventstore.cli.watching import log_warnings, watched
from eventstore.errors import ConfigurationError
from eventstore.projections import Projection
from eventstore.projections import rebuild as rebuild_read_model

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from eventstore.kafka.settings import KafkaSettings
    from eventstore.runtime.workers import Workers


class Feed(StrEnum):
    """What feeds a projection."""

    LOG = "log"
    KAFKA = "kafka"


UntilCaughtUp = Annotated[
    bool, typer.Option("--until-caught-up", help="Stop once everything that is in the log now is done.")
]
Within = Annotated[
    float | None,
    typer.Option(metavar="SECONDS", min=0, help="With --until-caught-up: give up after so long, with exit status 3."),
]
Brokers = Annotated[str | None, typer.Option(metavar="HOST:PORT,...", help="Kafka's brokers. \\[EVENTSTORE_KAFKA]")]


def publish(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Publishers; all if none.")] = None,
    *,
    kafka: Brokers = None,
    until_caught_up: UntilCaughtUp = False,
    within: Within = None,
) -> None:
    """Publish events to Kafka, until Ctrl-C or SIGTERM. Several may run: one works, the others stand by."""
    cli = cli_of(ctx)
    chosen = names or [publisher.name for publisher in cli.app.publishers]
    if not chosen:
        raise ConfigurationError(f"{cli.app.name!r} has no publishers: give it some with Application(publishers=[...])")
    for name in chosen:
        cli.publisher(name)
    _work(cli, chosen, kafka=cli.kafka(kafka), until_caught_up=until_caught_up, within=within, doing="publishing")


def project(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Projections; all if none.")] = None,
    *,
    feed: Annotated[Feed, typer.Option("--from", help="What feeds the read model.")] = Feed.LOG,
    kafka: Brokers = None,
    until_caught_up: UntilCaughtUp = False,
    within: Within = None,
) -> None:
    """Keep read models up to date, until Ctrl-C or SIGTERM. Several may run: one works, the others stand by."""
    cli = cli_of(ctx)
    chosen = names or [projection.name for projection in cli.app.projections if not projection.inline]
    if not chosen:
        raise ConfigurationError(
            f"{cli.app.name!r} has no projections to run: give it some with Application(projections=[...])"
        )
    for name in chosen:
        if cli.projection(name).inline:
            raise WrongNameError(
                f"projection {name!r} is inline: it runs in the appends themselves and is never behind"
            )
    brokers = cli.kafka(kafka) if feed is Feed.KAFKA else None
    _work(
        cli,
        chosen,
        kafka=brokers,
        from_kafka=feed is Feed.KAFKA,
        until_caught_up=until_caught_up,
        within=within,
        doing=f"projecting from {feed.value}:",
    )


def subscribe(
    ctx: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="NAME...", help="Subscriptions; all if none.")] = None,
    *,
    until_caught_up: UntilCaughtUp = False,
    within: Within = None,
) -> None:
    """Call the handlers of subscriptions, until Ctrl-C or SIGTERM. Several may run: one works, the others stand by."""
    cli = cli_of(ctx)
    chosen = names or [subscription.name for subscription in cli.app.subscriptions]
    if not chosen:
        raise ConfigurationError(
            f"{cli.app.name!r} has no subscriptions: give it some with Application(subscriptions=[...])"
        )
    for name in chosen:
        cli.subscription(name)
    _work(cli, chosen, kafka=None, until_caught_up=until_caught_up, within=within, doing="handling")


def _work(
    cli: Cli,
    names: Sequence[str],
    *,
    kafka: "KafkaSettings | None",
    until_caught_up: bool,
    within: float | None,
    doing: str,
    from_kafka: bool = False,
) -> None:
    if within is not None and not until_caught_up:
        raise typer.BadParameter("--within bounds --until-caught-up: give both, or neither")
    log_warnings(cli.output)
    workers = partial(cli.app.workers, kafka=kafka, from_kafka=from_kafka)
    work = _run_workers(cli, names, workers, until_caught_up=until_caught_up, within=within, doing=doing)
    if until_caught_up:
        run(work)
    else:
        run_until_stopped(work)


async def _run_workers(
    cli: Cli,
    names: Sequence[str],
    make: "Callable[..., AbstractAsyncContextManager[Workers]]",
    *,
    until_caught_up: bool,
    within: float | None,
    doing: str,
) -> None:
    began = perf_counter()
    async with cli.store(cli.app) as store, make(store, *names) as workers:
        progress = {name: workers[name].progress for name in names}
        async with watched(cli.output, store, progress, doing=doing):
            if until_caught_up:
                for one in progress.values():
                    left = None if within is None else max(0.0, within - (perf_counter() - began))
                    await one.caught_up(store.log, within=left)
            else:
                await asyncio.Event().wait()  # for ever: a signal ends it, or a worker that fails


def rebuild(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The projection.")],
) -> None:
    """Build a read model anew from the whole log, beside the one in use, and put it in its place."""
    cli = cli_of(ctx)
    projection = cli.projection(name)
    log_warnings(cli.output)
    began = perf_counter()
    events = run(_rebuild(cli, projection))
    seconds = perf_counter() - began
    if cli.as_json:
        document = {"projection": projection.name, "version": projection.version, "events": events, "seconds": seconds}
        cli.output.document(document)
        return
    cli.output.text((projection.consumer_name, "bold"), f": built anew from {events:,} event(s) in {seconds:.1f} s")


async def _rebuild(cli: Cli, projection: Projection) -> int:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %  {task.fields[events]:,} events"),
        TimeRemainingColumn(),
    )
    async with cli.store(cli.app) as store:
        end = await store.log.high_water()
        with cli.output.progress(*columns) as display:
            bar = display.add_task(projection.consumer_name, total=end, events=0)

            def report(applied: int, left: int) -> None:
                display.update(bar, total=max(end, left), completed=max(end - left, 0), events=applied)

            return await rebuild_read_model(store, projection, report=report)
