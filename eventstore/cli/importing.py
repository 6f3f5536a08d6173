"""`import`: a file of events into the log, in chunks, and on from where it was."""

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, Literal, cast

import typer
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn

from eventstore.bulk import CsvMapping, ImportedEvent, ImportProgress, ImportResult, import_events, read_csv, read_jsonl
from eventstore.bulk.importing import CHUNK
from eventstore.cli.options import Cli, cli_of
from eventstore.cli.running import run
from eventstore.errors import ConfigurationError


class Format(StrEnum):
    """What a file is."""

    JSONL = "jsonl"
    CSV = "csv"


class CountedFile:
    """A file that is read line by line, and knows how far; unpacked if its name ends in .gz.

    Attributes:
        size: Its bytes on the disk; 0 for what has none.
    """

    def __init__(self, path: Path | None, stack: ExitStack) -> None:
        self.size = 0
        self._raw: BinaryIO | None = None
        if path is None:
            self.stream: BinaryIO = sys.stdin.buffer
            return
        try:
            self._raw = stack.enter_context(path.open("rb"))
            self.size = path.stat().st_size
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from None
        self.stream = self._raw
        if path.suffix == ".gz":
            import gzip  # noqa: PLC0415 - few files are packed

            self.stream = cast("BinaryIO", stack.enter_context(gzip.GzipFile(fileobj=self._raw)))

    def done(self) -> int:
        """Return how many bytes have been read from the disk."""
        return self._raw.tell() if self._raw is not None else 0


def import_(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file; - for stdin. Unpacked if it ends in .gz.")],
    *,
    file_format: Annotated[Format | None, typer.Option("--format", help="What it is; by its name if left out.")] = None,
    mapping: Annotated[
        Path | None, typer.Option(metavar="MAP", help="For CSV: how columns become events (TOML or JSON).")
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Names the import, so that it can go on; the file's name else.")
    ] = None,
    chunk: Annotated[int, typer.Option(min=1, help="Rows in a transaction.")] = CHUNK,
    renumber: Annotated[bool, typer.Option(help="Number the events of each stream anew (JSON Lines).")] = False,
    skip_inline: Annotated[
        bool, typer.Option("--skip-inline", help="Import what inline projections want; rebuild them afterwards.")
    ] = False,
    keep_unknown: Annotated[
        bool,
        typer.Option("--keep-unknown", help="Import events of types that are not registered as they are, unread."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check everything, and write nothing.")] = False,
) -> None:
    """Import events from JSON Lines, as `export` writes them, or from CSV by a mapping.

    Each is checked by its model. Data that says its schema version, as all of an export does, must be readable, and is
    stored as it is; other data becomes an event of the current model. Run again after an interruption, it goes on where
    it was, and imports nothing twice.
    """
    cli = cli_of(ctx)
    from_stdin = str(file) == "-"
    kind = file_format or _kind(file)
    if (kind is Format.CSV) != (mapping is not None):
        raise typer.BadParameter("--mapping is for CSV, and CSV needs one")
    if from_stdin and name is None:
        raise typer.BadParameter("stdin has no name: give the import one with --name")
    with ExitStack() as stack:
        source = CountedFile(None if from_stdin else file, stack)
        events = (
            read_jsonl(source.stream, renumber=renumber)
            if mapping is None
            else _csv(source.stream, _load_mapping(mapping))
        )
        work = _import(
            cli,
            source,
            events,
            name=name or file.name,
            chunk=chunk,
            skip_inline=skip_inline,
            unknown="keep" if keep_unknown else "refuse",
            dry_run=dry_run,
        )
        result = run(work)
    if cli.as_json:
        cli.output.document(result._asdict() | {"dry_run": dry_run})
        return
    before = result.rows - result.imported
    already = f" ({before:,} were there before)" if before else ""
    done = "can be imported" if dry_run else "imported"
    cli.output.text((result.name, "bold"), f": {result.imported:,} event(s) {done}{already} in {result.seconds:.1f} s")


async def _import(
    cli: Cli,
    source: CountedFile,
    events: Iterable[ImportedEvent],
    *,
    name: str,
    chunk: int,
    skip_inline: bool,
    unknown: Literal["refuse", "keep"],
    dry_run: bool,
) -> ImportResult:
    async with cli.store(cli.app) as store:
        line = "{task.fields[rows]:,} events in the log"
        columns = (BarColumn(), TextColumn(line, markup=False), TimeRemainingColumn())
        with cli.output.progress(*columns) as display:
            bar = display.add_task(name, total=source.size or None, rows=0)

            def show(progress: ImportProgress) -> None:
                display.update(bar, completed=source.done(), rows=progress.rows)

            return await import_events(
                store,
                events,
                name=name,
                chunk=chunk,
                skip_inline=skip_inline,
                unknown=unknown,
                dry_run=dry_run,
                on_progress=show,
            )


def _kind(file: Path) -> Format:
    suffix = Path(file.name.removesuffix(".gz")).suffix
    kinds = {".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV}
    if suffix not in kinds:
        raise typer.BadParameter(f"what is {file.name}? Say --format jsonl or --format csv")
    return kinds[suffix]


def _load_mapping(path: Path) -> CsvMapping:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise ConfigurationError(f"the mapping {path} cannot be read") from None
    return CsvMapping.parse(text, toml=path.suffix != ".json")


def _csv(stream: BinaryIO, mapping: CsvMapping) -> Iterator[ImportedEvent]:
    try:
        text = io.TextIOWrapper(stream, encoding=mapping.encoding, newline="")
    except LookupError:
        raise ConfigurationError(f"the mapping names an encoding that does not exist: {mapping.encoding!r}") from None
    try:
        yield from read_csv(text, mapping)
    finally:
        text.detach()  # whoever opened the file closes it
