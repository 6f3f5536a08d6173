"""`snapshot`: take snapshots, keep them fresh, and prove that they tell the truth."""

import random
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Annotated, Any, Final, NamedTuple

import typer
from rich.progress import SpinnerColumn, TextColumn

from eventstore.aggregates import Shape
from eventstore.cli.errors import NotFoundError, SnapshotMismatchError
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import add_row, table
from eventstore.cli.running import run, run_until_stopped
from eventstore.cli.watching import log_warnings, watched
from eventstore.errors import ConfigurationError
from eventstore.events import StreamInfo
from eventstore.snapshots import Lag, Policy, SnapshotManager, Verification, take_snapshot, verify_snapshot
from eventstore.store import EventStore
from eventstore.store.log import StreamRange
from eventstore.streams import checked_stream_id

PAGE: Final = 500
LOOK_BACK: Final = 1000
"""Events behind a snapshot whose models a policy is asked about."""


class Taken(NamedTuple):
    """A stream whose snapshot is fresh now."""

    stream_id: str
    version: int
    replayed: int


class Standing(NamedTuple):
    """A stream, and its snapshot of the shape that the code has now; version 0 for none."""

    info: StreamInfo
    version: int
    taken_at: datetime | None


def snapshot(
    ctx: typer.Context,
    streams: Annotated[
        list[str] | None, typer.Argument(metavar="STREAM...", help="Take snapshots of these streams.")
    ] = None,
    *,
    category: Annotated[list[str] | None, typer.Option(help="Only streams of this category.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Take one of every stream that is behind, due or not.")] = False,
    verify: Annotated[bool, typer.Option(help="Take none; hold some against a full replay.")] = False,
    sample: Annotated[int, typer.Option(min=1, help="How many --verify looks at, chosen at random.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Take them as they fall due, until Ctrl-C.")] = False,
) -> None:
    """Take snapshots: of streams, or of all whose policy says that they are due; or verify some.

    Snapshots never change a result: they only make loading cheaper, and --verify proves it (exit status 1 if not).
    """
    cli = cli_of(ctx)
    if sum((bool(streams), every, verify and not streams, follow)) > 1 or (streams and category) or (verify and every):
        raise typer.BadParameter(
            "choose one of: streams, --all, --verify, --follow; --category narrows all but streams"
        )
    if follow:
        _follow(cli, category)
        return
    chosen = [checked_stream_id(stream) for stream in streams or ()]
    if verify:
        _verify(cli, chosen, category, sample)
        return
    taken = run(_take_of(cli, chosen) if chosen else _take_due(cli, category, every=every))
    if cli.as_json:
        cli.output.document([one._asdict() for one in taken])
        return
    rows = table(cli.output, ("STREAM", "left"), ("SNAPSHOT AT VERSION", "right"), ("EVENTS REPLAYED", "right"))
    for one in taken:
        add_row(rows, *one)
    if taken:
        cli.output.table(rows)
    cli.output.note(f"{len(taken):,} snapshot(s) taken")


# --- taking --------------------------------------------------------------------------------------------------------


async def _take_of(cli: Cli, streams: Sequence[str]) -> list[Taken]:
    shapes = {stream: cli.shape_of(stream) for stream in streams}
    async with cli.store(cli.app) as store:
        for stream in streams:
            if await store.stream_info(stream) is None:
                raise NotFoundError.no_events(stream)
        return [await _take(store, shape, stream) for stream, shape in shapes.items()]


async def _take_due(cli: Cli, categories: Sequence[str] | None, *, every: bool) -> list[Taken]:
    policies: dict[Shape[Any], Policy] = cli.app.snapshot_policies()
    if every:
        policies = {aggregate.shape: lambda lag: lag.events > 0 for aggregate in cli.app.aggregates}
    if categories:
        wanted = {cli.shape(category) for category in categories}
        policies = {shape: policy for shape, policy in policies.items() if shape in wanted}
    if not policies:
        raise ConfigurationError(
            f"{cli.app.name!r} has no snapshot policy for these streams: name streams, pass --all, or declare "
            "Application(snapshots={...})"
        )
    taken: list[Taken] = []
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}  {task.completed:,} streams  {task.fields[taken]:,} taken"),
    )
    async with cli.store(cli.app) as store:
        with cli.output.progress(*columns) as display:
            for shape, policy in policies.items():
                bar = display.add_task(shape.category, total=None, taken=0)
                async for standing in _standings(store, shape):
                    if await _is_due(store, policy, standing):
                        taken.append(await _take(store, shape, standing.info.stream_id))
                    display.update(bar, advance=1, taken=len(taken))
    return taken


async def _take(store: EventStore, shape: Shape[Any], stream: str) -> Taken:
    folded = await take_snapshot(store, shape, stream)
    return Taken(stream, folded.version, folded.replayed)


async def _standings(store: EventStore, shape: Shape[Any]) -> AsyncIterator[Standing]:
    """Yield all streams of a shape with their snapshots, page by page."""
    fingerprint, after = shape.fingerprint(store.event_types), ""
    while page := await store.log.list_streams(after, shape.category, PAGE):
        known = await store.log.snapshot_versions([info.stream_id for info in page], fingerprint)
        for info in page:
            version, taken_at = known.get(info.stream_id, (0, None))
            yield Standing(info, version, taken_at)
        after = page[-1].stream_id


async def _is_due(store: EventStore, policy: Policy, standing: Standing) -> bool:
    info, version, taken_at = standing
    behind = info.version - version
    if behind <= 0:
        return False
    lag = Lag(behind, info.updated_at - taken_at if taken_at else None)
    if policy(lag):
        return True
    # The policy may ask which events have come; that is worth a query only when nothing else made it due.
    stored = await store.log.read_stream(StreamRange(info.stream_id, from_version=version + 1), LOOK_BACK)
    types = {store.event_types.named(event.event_type) for event in stored}
    models = frozenset(event_type.model for event_type in types if event_type is not None)
    return policy(Lag(lag.events, lag.age, models))


# --- following -----------------------------------------------------------------------------------------------------


def _follow(cli: Cli, categories: Sequence[str] | None) -> None:
    policies = cli.app.snapshot_policies()
    if categories:
        raise typer.BadParameter("--follow keeps all that have a policy; leave out --category")
    if not policies:
        raise ConfigurationError(f"{cli.app.name!r} has no snapshot policies: declare Application(snapshots={{...}})")
    log_warnings(cli.output)
    run_until_stopped(_keep_fresh(cli))


async def _keep_fresh(cli: Cli) -> None:
    async with cli.store(cli.app) as store:
        manager = SnapshotManager(store, cli.app.snapshot_policies(), name=cli.app.name)
        async with watched(cli.output, store, {"snapshots": manager.progress}, doing="taking"):
            await manager.run()


# --- verifying -----------------------------------------------------------------------------------------------------


def _verify(cli: Cli, streams: Sequence[str], categories: Sequence[str] | None, sample: int) -> None:
    checked = run(_verifications(cli, streams, categories, sample))
    wrong = [one.stream_id for one in checked if not one.agrees]
    if cli.as_json:
        cli.output.document({"verified": len(checked), "disagree": wrong})
    else:
        cli.output.text(f"{len(checked):,} snapshot(s) held against a full replay, {len(wrong):,} disagree")
        for stream in wrong:
            cli.output.text("  ", (stream, "red"))
    if wrong:
        raise SnapshotMismatchError(wrong)


async def _verifications(
    cli: Cli, streams: Sequence[str], categories: Sequence[str] | None, sample: int
) -> list[Verification]:
    shapes = [cli.shape(category) for category in categories or ()] or [one.shape for one in cli.app.aggregates]
    async with cli.store(cli.app) as store:
        chosen = [(cli.shape_of(stream), stream) for stream in streams]
        if not streams:
            having = [
                (shape, standing.info.stream_id)
                for shape in shapes
                async for standing in _standings(store, shape)
                if standing.version
            ]
            chosen = random.SystemRandom().sample(having, min(sample, len(having)))
        found = []
        with cli.output.progress(TextColumn("verifying  {task.completed:,} of {task.total:,}")) as display:
            bar = display.add_task("", total=len(chosen))
            for shape, stream in chosen:
                found.append(await verify_snapshot(store, shape, stream))
                display.update(bar, advance=1)
        return found
