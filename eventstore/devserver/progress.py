"""Progress of a start on a terminal, drawn by rich."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich import progress as bars
from rich.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class RichProgress:
    """Each step a line, each download a bar that goes away when it is done.

    On anything but a terminal a download is one line, so that a log holds no half-drawn bars.
    """

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)

    def step(self, text: str) -> None:
        """Print what is being done now."""
        self._console.print(text, style="dim", highlight=False, markup=False)

    @contextmanager
    def download(self, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        """Draw a bar with the size, the speed and the time that is left."""
        if not self._console.is_terminal:
            self.step(f"{title}: {total_bytes / 1_000_000:.0f} MB")
            yield lambda _: None
            return
        columns = (
            bars.TextColumn("{task.description}", markup=False),
            bars.BarColumn(),
            bars.DownloadColumn(),
            bars.TransferSpeedColumn(),
            bars.TimeRemainingColumn(),
        )
        with bars.Progress(*columns, console=self._console, transient=True) as drawn:
            task = drawn.add_task(title, total=total_bytes)
            yield lambda count: drawn.advance(task, count)
