"""`replay`: an aggregate's state as it is or was, and how its events made it so."""

from collections.abc import Awaitable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, NamedTuple, TypeVar

import typer

from eventstore.aggregates import Folded, Shape, load_folded
from eventstore.aggregates.folding import load_as_of
from eventstore.cli.changes import ABSENT, Change, changes, dumped, flat
from eventstore.cli.errors import FoldError, NotFoundError, raised_at
from eventstore.cli.events import TIME_WIDTH
from eventstore.cli.options import Cli, cli_of, parse_time
from eventstore.cli.output import Columns, add_row, shown_json, shown_time, table
from eventstore.cli.running import run
from eventstore.errors import EventStoreError
from eventstore.events import RawEvent, RecordedEvent, StreamInfo
from eventstore.store import EventStore
from eventstore.streams import checked_stream_id

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which state of a stream is asked for: at a version, or at a time; the latest when all is left open."""

    stream_id: str
    version: int | None
    occurred_until: datetime | None
    recorded_until: datetime | None
    use_snapshot: bool

    @property
    def by_time(self) -> bool:
        """Whether a time bounds it; snapshots are then of no use."""
        return self.occurred_until is not None or self.recorded_until is not None

    def described(self) -> str:
        """Return the time in words; a version is said anyway."""
        if self.occurred_until is not None:
            return f" as of what had occurred by {shown_time(self.occurred_until)}"
        if self.recorded_until is not None:
            return f" as it was known at {shown_time(self.recorded_until)}"
        return ""


class Step(NamedTuple):
    """An event, and what it changed in the state."""

    event: RecordedEvent[Any]
    changes: list[Change]


class Replayed(NamedTuple):
    """What a replay has found."""

    info: StreamInfo
    shape: Shape[Any]
    folded: Folded[Any]
    steps: list[Step] | None


def replay(
    ctx: typer.Context,
    stream: Annotated[str, typer.Argument(metavar="STREAM", help="The aggregate's stream, category-key.")],
    *,
    version: Annotated[int | None, typer.Option(min=1, help="As it was at this version.")] = None,
    at: Annotated[
        str | None, typer.Option(metavar="TIME", help="As what had happened by this business time makes it.")
    ] = None,
    recorded_at: Annotated[str | None, typer.Option(metavar="TIME", help="As it was known at this time.")] = None,
    steps: Annotated[bool, typer.Option("--steps", help="Show each event and what it changed.")] = False,
    no_snapshot: Annotated[bool, typer.Option("--no-snapshot", help="Fold all events, from the first on.")] = False,
) -> None:
    """Show the state of an aggregate: now, at a version, at a time, or event by event.

    Times are of ISO 8601; without a zone they are UTC.
    """
    if sum(bound is not None for bound in (version, at, recorded_at)) > 1:
        raise typer.BadParameter("choose one of --version, --at and --recorded-at")
    wanted = Wanted(
        checked_stream_id(stream),
        version,
        parse_time(at) if at else None,
        parse_time(recorded_at) if recorded_at else None,
        use_snapshot=not no_snapshot,
    )
    cli = cli_of(ctx)
    replayed = run(_replay(cli, wanted, step_by_step=steps))
    if cli.as_json:
        cli.output.document(_document(replayed))
    else:
        _print(cli, wanted, replayed)


async def _replay(cli: Cli, wanted: Wanted, *, step_by_step: bool) -> Replayed:
    shape = cli.shape_of(wanted.stream_id)
    async with cli.store(cli.app) as store:
        info = await store.stream_info(wanted.stream_id)
        if info is None:
            raise NotFoundError.no_events(wanted.stream_id)
        if wanted.version is not None and wanted.version > info.version:
            raise NotFoundError(wanted.stream_id, f"is at version {info.version}: there is no {wanted.version} yet")
        steps = await _steps(store, shape, wanted) if step_by_step else None
        folded = await _mapped(wanted.stream_id, _load(store, shape, wanted))
        if folded.version == 0:
            raise NotFoundError(wanted.stream_id, await _before_its_time(store, info, wanted))
    return Replayed(info, shape, folded, steps)


async def _before_its_time(store: EventStore, info: StreamInfo, wanted: Wanted) -> str:
    """Say when the stream began, by the clock that was asked about."""
    if wanted.occurred_until is None:
        clock, option, first = "recorded", "--recorded-at", info.created_at
    else:
        occurred = [event.occurred_at async for event in store.read_stream(wanted.stream_id, of=RawEvent)]
        clock, option, first = "occurred", "--at", min(occurred)  # what was recorded first need not have occurred first
    return (
        f"has no events up to then: {option} goes by {clock}_at, and the earliest {clock} at {shown_time(first)}; "
        "`read` shows all"
    )


async def _load(store: EventStore, shape: Shape[Any], wanted: Wanted) -> Folded[Any]:
    if not wanted.by_time:
        return await load_folded(
            store, shape, wanted.stream_id, version=wanted.version, use_snapshot=wanted.use_snapshot
        )
    return await load_as_of(
        store,
        shape,
        wanted.stream_id,
        occurred_until=wanted.occurred_until,
        recorded_until=wanted.recorded_until,
    )


async def _steps(store: EventStore, shape: Shape[Any], wanted: Wanted) -> list[Step]:
    """Fold all events one by one, and note what each changed."""
    state = shape.initial()
    before = dumped(shape, state)
    steps = []
    async for event in store.read_stream(
        wanted.stream_id,
        of=shape.events,
        to_version=wanted.version,
        occurred_until=wanted.occurred_until,
        recorded_until=wanted.recorded_until,
    ):
        with _folding(wanted.stream_id, event.stream_version):
            state = shape.evolve(state, event.data)
            after = dumped(shape, state)
        steps.append(Step(event, changes(before, after)))
        before = after
    return steps


async def _mapped(stream_id: str, folding: Awaitable[T]) -> T:
    with _folding(stream_id):
        return await folding


@contextmanager
def _folding(stream_id: str, version: int | None = None) -> Iterator[None]:
    """Turn what the application's `evolve` raises into an error that says so."""
    try:
        yield
    except EventStoreError:
        raise
    except Exception as error:
        raise FoldError(stream_id, raised_at(error), version) from error


# --- output --------------------------------------------------------------------------------------------------------


def _document(replayed: Replayed) -> dict[str, Any]:
    info, shape, folded, steps = replayed
    document = {
        "stream_id": info.stream_id,
        "version": folded.version,
        "last_version": info.version,
        "position": folded.position,
        "event_id": folded.event_id,
        "state": dumped(shape, folded.state),
        "loaded": {
            "snapshot_version": folded.snapshot_version or None,
            "events_replayed": folded.replayed,
            "seconds": folded.seconds,
        },
    }
    return document | ({"steps": [_step_document(step) for step in steps]} if steps is not None else {})


def _step_document(step: Step) -> dict[str, Any]:
    event = step.event
    return {
        "stream_version": event.stream_version,
        "position": event.position,
        "event_id": event.event_id,
        "event_type": event.event_type,
        "occurred_at": event.occurred_at,
        "recorded_at": event.recorded_at,
        "changes": [
            {"path": path} | {name: value for name, value in (("from", old), ("to", new)) if value is not ABSENT}
            for path, old, new in step.changes
        ],
    }


def _print(cli: Cli, wanted: Wanted, replayed: Replayed) -> None:
    info, shape, folded, steps = replayed
    if steps is not None:
        _print_steps(cli, steps)
        cli.output.text("")
    of = f" of {info.version}" if folded.version < info.version else ""
    cli.output.text((info.stream_id, "bold"), wanted.described(), f": version {folded.version}{of}")
    if folded.snapshot_version:
        how = f"from the snapshot at version {folded.snapshot_version} and {folded.replayed} later event(s)"
    else:
        how = f"from {folded.replayed} event(s), without a snapshot"
    cli.output.text((f"loaded {how}, in {folded.seconds * 1000:.1f} ms" if folded.seconds else f"folded {how}", "dim"))
    cli.output.text("")
    rows = table(cli.output, ("STATE", "left"), ("VALUE", "left"))
    for path, value in flat(dumped(shape, folded.state)):
        add_row(rows, path, shown_json(value))
    cli.output.table(rows)


def _print_steps(cli: Cli, steps: list[Step]) -> None:
    width = max((len(step.event.event_type) for step in steps), default=0)
    columns = Columns(
        cli.output,
        ("VERSION", 7, "right"),
        ("OCCURRED", TIME_WIDTH, "left"),
        ("EVENT", width, "left"),
        ("CHANGED", 0, "left"),
    )
    for event, changed in steps:
        columns.line(
            str(event.stream_version),
            shown_time(event.occurred_at),
            event.event_type,
            ", ".join(_shown_change(change) for change in changed) or "nothing",
            styles=("cyan", "dim", "bold", "" if changed else "dim"),
        )


def _shown_change(change: Change) -> str:
    path, before, after = change
    if before is ABSENT:
        return f"{path}: {shown_json(after)}"
    if after is ABSENT:
        return f"{path}: gone"
    return f"{path}: {shown_json(before)} → {shown_json(after)}"
