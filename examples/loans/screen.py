"""What the demo shows: a bar for each stage while it runs, then what each has done, then figures that must agree."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import TYPE_CHECKING, Final

from rich import box
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from eventstore.lifecycle import running
from examples.loans.figures import LABELS, PUBLISHED, Figures

if TYPE_CHECKING:
    from rich.console import Console

REDRAW_SECONDS: Final = 0.1


@dataclass(eq=False)
class Stage:
    """One of the things that go on side by side.

    Attributes:
        name: What it is called.
        total: How much there is to do.
        reached: Says how far it is, of `total`.
        handled: Says how many events it has handled in this run.
    """

    name: str
    total: int
    reached: Callable[[], int]
    handled: Callable[[], int]
    began: float = field(default_factory=perf_counter)
    seconds: float | None = None

    def finish(self) -> None:
        """Stop its clock."""
        self.seconds = perf_counter() - self.began


@asynccontextmanager
async def bars(console: Console, stages: Sequence[Stage]) -> AsyncIterator[None]:
    """Draw the stages' bars while the block runs."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        TextColumn("{task.completed:>7,.0f} of {task.total:,.0f}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, expand=True) as drawn:
        tasks = {drawn.add_task(stage.name, total=stage.total): stage for stage in stages}

        def draw() -> None:
            for task, stage in tasks.items():
                done = stage.total if stage.seconds is not None else min(stage.reached(), stage.total)
                drawn.update(task, completed=done)

        async def redraw() -> None:
            while True:
                draw()
                await asyncio.sleep(REDRAW_SECONDS)

        try:
            async with running(redraw()):
                yield
        finally:
            draw()


def show_stages(console: Console, stages: Sequence[Stage]) -> None:
    """Print what each stage has done in this run, and how fast."""
    table = _table("This run, all stages side by side", "Events", "Seconds", "Events/s")
    for stage in stages:
        events, seconds = stage.handled(), stage.seconds or 0.0
        speed = f"{events / seconds:,.0f}" if events and seconds else "-"
        table.add_row(stage.name, f"{events:,}", f"{seconds:.1f}", speed)
    console.print(table)


def show_figures(console: Console, read_models: Figures, counted: Figures, *, published: bool) -> bool:
    """Print the read models' figures beside those counted from the rows, and the published ones; whether they agree."""
    table = _table("What came out", "Read models", "Rows counted", *(["Published"] if published else []), "")
    agree = True
    for name, label in LABELS.items():
        found, expected = getattr(read_models, name), getattr(counted, name)
        known = PUBLISHED.get(name) if published else None
        same = found == expected and known in {None, found}
        agree = agree and same
        shown = ["" if known is None else f"{known:,}"] if published else []
        table.add_row(label, f"{found:,}", f"{expected:,}", *shown, "[green]✓[/]" if same else "[bold red]✗[/]")
    console.print(table)
    if not agree:
        console.print("[bold red]The figures do not agree.[/]")
    return agree


def _table(title: str, *headings: str) -> Table:
    table = Table(title, box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in headings:
        table.add_column(heading, justify="right")
    return table


def section(console: Console, title: str) -> None:
    """Print a title above what follows."""
    console.print()
    console.rule(title, align="left", style="dim")
