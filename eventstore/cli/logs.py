"""Looking into the log: `streams` and `read`."""

from contextlib import aclosing
from typing import Annotated, Any

import typer

from eventstore.cli.errors import NotFoundError
from eventstore.cli.events import EventPrinter, Reading
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.output import add_row, table
from eventstore.cli.running import run, run_until_stopped
from eventstore.cli.sources import LogSource, Source, StreamSource
from eventstore.events import StreamInfo
from eventstore.store.log import LAST_VERSION, StreamRange
from eventstore.streams import checked_stream_id


def streams(
    ctx: typer.Context,
    *,
    category: Annotated[str | None, typer.Option(help="Only streams of this category.")] = None,
    after: Annotated[str, typer.Option(metavar="STREAM", help="Only streams after this one, in order of ids.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
) -> None:
    """List streams in the order of their ids."""
    cli = cli_of(ctx)
    cli.check_app()
    found = run(_list_streams(cli, category, after, limit + 1))
    listed = found[:limit]
    if cli.as_json:
        cli.output.document([info_document(info) for info in listed])
        return
    rows = table(cli.output, ("STREAM", "left"), ("EVENTS", "right"), ("FIRST RECORDED", "left"), ("LAST", "left"))
    for info in listed:
        add_row(rows, info.stream_id, info.version, info.created_at, info.updated_at)
    cli.output.table(rows)
    if len(found) > limit:
        cli.output.note(f"there are more: --after {listed[-1].stream_id}, or a higher --limit")


async def _list_streams(cli: Cli, category: str | None, after: str, limit: int) -> list[StreamInfo]:
    found: list[StreamInfo] = []
    async with cli.store() as store:
        while len(found) < limit:
            page = await store.log.list_streams(after, category, min(500, limit - len(found)))
            if not page:
                break
            found += page
            after = page[-1].stream_id
    return found


def info_document(info: StreamInfo) -> dict[str, Any]:
    """Return a stream as JSON."""
    return {
        "stream_id": info.stream_id,
        "category": info.category,
        "version": info.version,
        "created_at": info.created_at,
        "updated_at": info.updated_at,
    }


def read(
    ctx: typer.Context,
    stream: Annotated[str | None, typer.Argument(metavar="STREAM", help="The stream, category-key.")] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="Read the whole log instead of one stream.")] = False,
    from_version: Annotated[int, typer.Option(min=1, help="The first version.")] = 1,
    to_version: Annotated[int | None, typer.Option(min=1, help="The last version.")] = None,
    backwards: Annotated[bool, typer.Option(help="Newest first (one stream).")] = False,
    after: Annotated[
        str | None, typer.Option(metavar="POSITION", help="With --all: after this position; `end` for new events only.")
    ] = None,
    category: Annotated[list[str] | None, typer.Option(help="With --all: only these categories.")] = None,
    event_type: Annotated[list[str] | None, typer.Option("--type", help="Only these event types.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many events.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for further events, until Ctrl-C.")] = False,
    raw: Annotated[bool, typer.Option(help="Show data as it is stored; needs no application.")] = False,
) -> None:
    """Read events: of one stream, or with --all of the log; with --json, a line for each.

    With an application, data is shown as its current models read it; without one, as it is stored.
    """
    by_position, by_version = after is not None or bool(category), backwards or to_version is not None
    _check_read(stream, every=every, by_position=by_position, by_version=by_version)
    if follow and by_version:
        raise typer.BadParameter("--follow goes on behind the end: leave out --backwards and --to-version")
    cli = cli_of(ctx)
    reading = Reading.chosen(cli, event_type, raw=raw)
    source: Source
    if stream is None:
        source = LogSource(after, category)
    else:
        checked = checked_stream_id(stream)
        source = StreamSource(StreamRange(checked, from_version, to_version or LAST_VERSION, backwards=backwards))
    work = _print_events(cli, reading, source, limit=limit, follow=follow)
    if follow:
        run_until_stopped(work)
    else:
        run(work)


def _check_read(stream: str | None, *, every: bool, by_position: bool, by_version: bool) -> None:
    if (stream is None) != every:
        raise typer.BadParameter("name one stream, or --all for the whole log")
    if every and by_version:
        raise typer.BadParameter("--backwards and --to-version are for one stream; the log is read with --after")
    if stream is not None and by_position:
        raise typer.BadParameter("--after and --category are for --all; a stream is read with --from-version")


async def _print_events(cli: Cli, reading: Reading, source: Source, *, limit: int | None, follow: bool) -> None:
    printer = EventPrinter(cli.output, with_stream=isinstance(source, LogSource), type_width=reading.type_width)
    left = limit
    async with cli.store(reading.app) as store:
        pages = source.followed(store, reading) if follow else source.pages(store, reading, limit)
        async with aclosing(pages):
            async for page in pages:
                shown = page if left is None else page[:left]
                for event in shown:
                    printer.print(event)
                printer.flush()
                if left is not None:
                    left -= len(shown)
                    if not left:
                        return
        if not follow and isinstance(source, StreamSource) and await store.stream_info(source.stream_id) is None:
            raise NotFoundError.no_events(source.stream_id)
