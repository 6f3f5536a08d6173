"""`export`: the log, or a part of it, as JSON Lines."""

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import aclosing, contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, BinaryIO, TextIO, cast

import typer
from rich.progress import SpinnerColumn, TextColumn

from eventstore.bulk import export_log, export_stream
from eventstore.cli.errors import NotFoundError
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.running import run
from eventstore.errors import ConfigurationError
from eventstore.events import BEGINNING, Position, position_number


def export(
    ctx: typer.Context,
    *,
    stream: Annotated[str | None, typer.Option(metavar="STREAM", help="Only this stream.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Only streams of these categories.")] = None,
    after: Annotated[str | None, typer.Option(metavar="POSITION", help="Only events after this position.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="A new file, packed if it ends in .gz; stdout else."),
    ] = None,
) -> None:
    """Export events as JSON Lines, as they are stored, in the order of the log.

    `import` is the inverse, also where models have changed since: it stores the data of each line as it stands there,
    if it can still be read (types that are no longer registered: with --keep-unknown). A part that does not begin with
    the streams' first events is imported with --renumber.
    """
    if stream is not None and (category or after is not None):
        raise typer.BadParameter("--stream exports one stream: leave out --category and --after")
    cli = cli_of(ctx)
    start = BEGINNING if after is None else Position.parse(after)
    with _opened(out) as file:
        count = run(_export(cli, file, stream=stream, categories=category, after=position_number(start)))
    if cli.as_json and out is not None:
        cli.output.document({"events": count, "file": str(out)})
    else:
        cli.output.note(f"{count:,} event(s) exported")


async def _export(cli: Cli, file: TextIO, *, stream: str | None, categories: list[str] | None, after: int) -> int:
    count = 0
    async with cli.store() as store:
        pages = (
            export_stream(store, stream)
            if stream is not None
            else export_log(store, after=after, categories=categories)
        )
        with cli.output.progress(SpinnerColumn(), TextColumn("{task.completed:,} events", markup=False)) as display:
            shown = display.add_task("export", total=None)
            async with aclosing(pages):
                async for lines in pages:
                    file.writelines(lines)
                    count += len(lines)
                    display.update(shown, completed=count)
        if stream is not None and not count:
            raise NotFoundError.no_events(stream)
    return count


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Open a new file, or stdout."""
    if path is None:
        sys.stdout.reconfigure(encoding="utf-8")  # type: ignore[union-attr]
        yield sys.stdout
        sys.stdout.flush()
        return
    try:
        with _new(path) as file:
            yield file
    except FileExistsError:
        raise ConfigurationError(f"{path} is there already: export to a new file") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from None


@contextmanager
def _new(path: Path) -> Iterator[TextIO]:
    with path.open("xb") as raw:
        try:
            packed = gzip.GzipFile(path.name, "wb", fileobj=raw) if path.suffix == ".gz" else nullcontext(raw)
            with packed as binary, io.TextIOWrapper(cast("BinaryIO", binary), encoding="utf-8") as file:
                yield file
        except BaseException:
            path.unlink()  # what could not be finished
            raise
