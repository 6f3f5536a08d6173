"""What commands print: tables and columns for people, JSON for machines. Results on stdout, all else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventstore.cli.errors import printable

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.progress import Progress

Justify = Literal["left", "right"]


class Output:
    """Where a command prints.

    Args:
        as_json: Whether the results go to a machine.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = _console(sys.stdout)
        self.notes = _console(sys.stderr)

    def document(self, value: Any) -> None:
        """Print one JSON document on one line, and let it be seen at once."""
        encoding = (sys.stdout.encoding or "ascii").lower()
        sys.stdout.write(json.dumps(value, ensure_ascii=not encoding.startswith("utf"), default=_json) + "\n")
        sys.stdout.flush()

    def table(self, table: Table) -> None:
        """Print a table as wide as it needs to be: a cut id is of no use."""
        free = self.console.options.update(max_width=10_000)
        width = max(self.console.width, self.console.measure(table, options=free).maximum)
        _console(sys.stdout, width=width).print(table)

    def text(self, *parts: str | tuple[str, str]) -> None:
        """Print a line of plain and styled parts."""
        self.console.print(Text.assemble(*parts), soft_wrap=True)

    def note(self, text: str) -> None:
        """Tell people something beside the results; machines are not told."""
        if not self.as_json:
            self.notes.print(text, style="dim", markup=False, soft_wrap=True)

    def progress(self, *columns: Any) -> AbstractContextManager[Progress]:
        """Open a progress display on stderr; it shows nothing where nobody watches."""
        from rich.progress import Progress  # noqa: PLC0415 - few commands need it

        hidden = self.as_json or not self.notes.is_terminal
        return Progress(*columns, console=self.notes, transient=True, disable=hidden)


class Columns:
    """Lines with columns of fixed widths, for what is printed while it comes.

    Args:
        output: Where to print.
        columns: For each its heading, width and side; the last one is as long as it is.
    """

    def __init__(self, output: Output, *columns: tuple[str, int, Justify]) -> None:
        self._output = output
        self._columns = columns
        self._headed = False

    def line(self, *cells: str, styles: Sequence[str]) -> None:
        """Print a line, and the headings before the first one."""
        if not self._headed:
            self._headed = True
            headings = (heading for heading, _, _ in self._columns)
            self._print(tuple(headings), ["bold"] * len(self._columns))
        self._print(cells, styles)

    def _print(self, cells: Sequence[str], styles: Sequence[str]) -> None:
        text = Text()
        for index, (cell, style, (_, width, justify)) in enumerate(zip(cells, styles, self._columns, strict=True)):
            shown = printable(cell)
            padded = shown.rjust(width) if justify == "right" else shown.ljust(width)
            text.append(padded if index < len(cells) - 1 else shown, style=style)
            text.append("  ")
        text.rstrip()
        self._output.console.print(text, soft_wrap=True)


class _Console(Console):
    def on_broken_pipe(self) -> None:
        raise BrokenPipeError  # one exit status for it, whoever noticed


def _console(stream: TextIO, *, width: int | None = None) -> Console:
    return _Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def table(output: Output, *columns: tuple[str, Justify], title: str | None = None) -> Table:
    """Return an empty table: ruled on a terminal, bare elsewhere."""
    ruled = box.SIMPLE_HEAD if output.console.is_terminal else None
    made = Table(
        box=ruled, show_edge=False, pad_edge=False, header_style="bold", title_justify="left", title_style="bold"
    )
    made.title = title
    for heading, justify in columns:
        made.add_column(heading, justify=justify, no_wrap=True)
    return made


def add_row(to: Table, *cells: object, style: str | None = None) -> None:
    """Add a row of plain text; numbers get thousands separators, None is shown as a dash."""
    to.add_row(*(Text(shown(cell)) for cell in cells), style=style)


def shown(value: object) -> str:
    """Return a value as people read it."""
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case datetime():
            return shown_time(value)
        case _:
            return printable(str(value))


def shown_time(time: datetime) -> str:
    """Return a time in UTC, to the millisecond."""
    utc = time.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03d}Z"


def shown_json(value: Any) -> str:
    """Return a JSON value on one line; a string without its quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _json(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)  # ids and positions
