"""`parked`: what projections hold back because an event could not be applied, and going on with it."""

import getpass
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer

from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import add_row, shown_time, table
from eventstore.cli.running import run
from eventstore.db import Database, require_current_schema
from eventstore.errors import EventStoreError
from eventstore.projections import (
    DiscardedEvent,
    ParkedStream,
    ParkedStreams,
    Projection,
    Replayed,
    discard_parked,
    replay_all_parked,
    replay_parked,
)

Name = Annotated[str, typer.Argument(metavar="PROJECTION", help="The projection.")]
Stream = Annotated[str, typer.Argument(metavar="STREAM", help="The stream that it holds back.")]

parked = typer.Typer(
    name="parked",
    help="Streams that projections hold back because an event could not be applied: list, show, replay, discard.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


class StillParkedError(EventStoreError):
    """Some streams are held back still: their events failed again."""

    def __init__(self, projection: str, stream_ids: Sequence[str]) -> None:
        self.projection = projection
        self.stream_ids = tuple(stream_ids)
        super().__init__(
            f"{len(self.stream_ids)} stream(s) are held back still, the first is {self.stream_ids[0]!r}: `eventstore "
            f"parked show {projection} {self.stream_ids[0]}` says why"
        )


# --- looking -------------------------------------------------------------------------------------------------------


@parked.command("list")
def list_(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="PROJECTION", help="Only of this one.")] = None,
    *,
    discarded: Annotated[bool, typer.Option(help="List what was discarded instead: who, when, and why.")] = False,
) -> None:
    """List what is held back: the first event of each stream that could not be applied."""
    cli = cli_of(ctx)
    consumer = cli.projection(name).consumer_name if name else None
    if discarded:
        _print_discarded(cli, run(_discarded(cli, consumer)))
    else:
        _print_held(cli, run(_held(cli, consumer)))


@parked.command()
def show(ctx: typer.Context, name: Name, stream: Stream) -> None:
    """Show why a stream is held back: the event, the error, and where it was raised. Payloads are not kept."""
    cli = cli_of(ctx)
    found = run(_find(cli, cli.projection(name).consumer_name, stream))
    if cli.as_json:
        cli.output.document(_document(found))
        return
    facts = table(cli.output, ("", "left"), ("", "left"))
    facts.show_header = False
    add_row(facts, "stream", found.stream_id)
    add_row(facts, "held back by", found.consumer)
    add_row(facts, "from version", f"{found.from_version:,} ({found.event_type}), {found.held:,} event(s) so far")
    add_row(facts, "event id", found.event_id)
    add_row(facts, "position", found.from_position)
    add_row(facts, "failed", f"{shown_time(found.failed_at)}, after {found.attempts:,} attempt(s)")
    add_row(facts, "error", found.error_type)
    cli.output.table(facts)
    for line in found.error.splitlines():
        cli.output.text("  ", line)


# --- deciding ------------------------------------------------------------------------------------------------------


@parked.command()
def replay(
    ctx: typer.Context,
    name: Name,
    stream: Annotated[str | None, typer.Argument(metavar="STREAM", help="The stream; or --all of them.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All streams that the projection holds back.")] = False,
) -> None:
    """Apply what is held back, whether or not a worker runs; what fails again stays held back (exit status 1)."""
    if (stream is None) != every:
        raise typer.BadParameter("name a stream, or pass --all")
    cli = cli_of(ctx)
    projection = cli.projection(name)
    _print_replayed(cli, projection, run(_replay(cli, projection, stream)))


@parked.command()
def discard(
    ctx: typer.Context,
    name: Name,
    stream: Stream,
    *,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")],
    by: Annotated[str | None, typer.Option(help="Who decides it; it is kept. The user, if left out.")] = None,
    version: Annotated[
        int | None, typer.Option(min=1, help="The version that `parked show` has shown; another one is not discarded.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask; needs --version.")] = False,
) -> None:
    """Go on with a stream without the event that could not be applied; the rest of it is applied.

    Who did so, when and why stays on record (`parked list --discarded`). A rebuild tries the event again.
    """
    cli = cli_of(ctx)
    projection = cli.projection(name)
    if yes and version is None:
        raise typer.BadParameter("nobody is asked: say which event it is with --version, as `parked show` shows it")
    if not yes:
        found = run(_find(cli, projection.consumer_name, stream))
        if not sys.stdin.isatty():
            raise typer.BadParameter("nobody can be asked here: pass --yes and --version")
        cli.output.note(f"version {found.from_version:,} ({found.event_type}) failed with {found.error_type}")
        typer.confirm(f"Go on with {stream} without it?", abort=True, err=True)
        version = version or found.from_version
    decided = {"by": by or getpass.getuser(), "reason": reason, "version": version}
    _print_replayed(cli, projection, [run(_discard(cli, projection, stream, **decided))])


# --- the work ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _database(cli: Cli) -> AsyncIterator[Database]:
    async with cli.database() as database:
        await require_current_schema(database)
        yield database


async def _held(cli: Cli, consumer: str | None) -> list[ParkedStream]:
    async with _database(cli) as database:
        return await ParkedStreams(database, consumer).held()


async def _discarded(cli: Cli, consumer: str | None) -> list[DiscardedEvent]:
    async with _database(cli) as database:
        return await ParkedStreams(database, consumer).discarded()


async def _find(cli: Cli, consumer: str, stream: str) -> ParkedStream:
    async with _database(cli) as database:
        return await ParkedStreams(database, consumer).find(stream)


async def _replay(cli: Cli, projection: Projection, stream: str | None) -> list[Replayed]:
    async with cli.store(cli.app) as store:
        if stream is not None:
            return [await replay_parked(store, projection, stream)]
        return [one async for one in replay_all_parked(store, projection)]


async def _discard(cli: Cli, projection: Projection, stream: str, **decided: Any) -> Replayed:
    async with cli.store(cli.app) as store:
        return await discard_parked(store, projection, stream, **decided)


# --- printing ------------------------------------------------------------------------------------------------------


def _document(held: ParkedStream) -> dict[str, Any]:
    return {**asdict(held), "held": held.held}


def _print_held(cli: Cli, held: Sequence[ParkedStream]) -> None:
    if cli.as_json:
        cli.output.document([_document(one) for one in held])
        return
    if held:
        rows = table(
            cli.output,
            ("PROJECTION", "left"),
            ("STREAM", "left"),
            ("FROM VERSION", "right"),
            ("HELD", "right"),
            ("EVENT", "left"),
            ("ERROR", "left"),
            ("ATTEMPTS", "right"),
            ("FAILED", "left"),
        )
        for one in held:
            what = (one.event_type, one.error_type, one.attempts, one.failed_at)
            add_row(rows, one.consumer, one.stream_id, one.from_version, one.held, *what)
        cli.output.table(rows)
    cli.output.note(f"{len(held):,} stream(s) held back")


def _print_discarded(cli: Cli, discarded: Sequence[DiscardedEvent]) -> None:
    if cli.as_json:
        cli.output.document([asdict(one) for one in discarded])
        return
    if discarded:
        rows = table(
            cli.output,
            ("PROJECTION", "left"),
            ("STREAM", "left"),
            ("VERSION", "right"),
            ("EVENT", "left"),
            ("ERROR", "left"),
            ("BY", "left"),
            ("DISCARDED", "left"),
            ("REASON", "left"),
        )
        for one in discarded:
            what = (one.event_type, one.error_type, one.discarded_by, one.discarded_at, one.reason)
            add_row(rows, one.consumer, one.stream_id, one.stream_version, *what)
        cli.output.table(rows)
    cli.output.note(f"{len(discarded):,} event(s) discarded")


def _print_replayed(cli: Cli, projection: Projection, replayed: Sequence[Replayed]) -> None:
    if cli.as_json:
        cli.output.document(
            [
                {"stream_id": one.stream_id, "events": one.events, "parked": one.parked and _document(one.parked)}
                for one in replayed
            ]
        )
    else:
        for one in replayed:
            held = one.parked
            rest = f", held back from version {held.from_version:,} on: {held.error_type}" if held else ""
            cli.output.text((one.stream_id, "bold"), f": {one.events:,} event(s) applied{rest}")
        cli.output.note(f"{len(replayed):,} stream(s) replayed")
    still = [one.stream_id for one in replayed if one.parked is not None]
    if still:
        raise StillParkedError(projection.name, still)
