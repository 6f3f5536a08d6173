"""Workers on a terminal: a live line for each, and what they warn of; for machines, when they start and stop."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from rich.progress import SpinnerColumn, TextColumn

from eventstore.cli.errors import DEBUG_VARIABLE, without_credentials
from eventstore.lifecycle import running

if TYPE_CHECKING:
    from eventstore.cli.output import Output
    from eventstore.store import EventStore
    from eventstore.subscriptions import Progress

REFRESH_SECONDS: Final = 0.5


@asynccontextmanager
async def watched(
    output: Output, store: EventStore, workers: Mapping[str, Progress], *, doing: str
) -> AsyncIterator[None]:
    """Show how far workers are for as long as the block lasts.

    Args:
        output: Where to show it.
        store: The store, whose end they are held against.
        workers: Their progress, by name.
        doing: What they do, in a word.
    """
    names = ", ".join(workers)
    if output.as_json:
        output.document({"state": "started", "workers": list(workers)})
    output.note(f"{doing} {names}; Ctrl-C stops")
    try:
        async with running(_show(output, store, workers)):
            yield
    finally:
        if output.as_json:
            done = [{"name": name, "position": p.position, "events": p.events} for name, p in workers.items()]
            output.document({"state": "stopped", "workers": done})
        for name, progress in workers.items():
            output.note(f"{name}: {progress.events:,} event(s), stopped at position {progress.position:,}")


async def _show(output: Output, store: EventStore, workers: Mapping[str, Progress]) -> None:
    line = "{task.description}  {task.fields[state]}  position {task.fields[position]:,}  "
    more = "{task.fields[behind]:,} behind  {task.fields[events]:,} events"
    with output.progress(SpinnerColumn(), TextColumn(line + more, markup=False)) as display:
        if display.disable:
            return
        fields = {"state": "waiting", "position": 0, "behind": 0, "events": 0}
        tasks = {name: display.add_task(name, total=None, **fields) for name in workers}  # type: ignore[arg-type]
        while True:
            drawn = await store.log.last_drawn()
            for name, progress in workers.items():
                behind = max(0, drawn - progress.position)
                at = {"state": progress.state, "position": progress.position, "behind": behind}
                display.update(tasks[name], events=progress.events, **at)  # type: ignore[arg-type]
            await asyncio.sleep(REFRESH_SECONDS)


class WarningLines(logging.Handler):
    """Prints what workers log, a line for each record: without tracebacks, and for machines as JSON."""

    def __init__(self, output: Output) -> None:
        super().__init__(logging.WARNING)
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        message = without_credentials(record.getMessage())
        level = record.levelname.lower()
        if self._output.as_json:
            sys.stderr.write(json.dumps({"level": level, "logger": record.name, "message": message}) + "\n")
        else:
            self._output.notes.print(f"{level}: {message}", markup=False, soft_wrap=True)


def log_warnings(output: Output) -> None:
    """Let the framework's warnings be seen; the Kafka client's own lines only repeat them, so they need a debugger."""
    logging.basicConfig(handlers=[WarningLines(output)], level=logging.WARNING, force=True)
    if os.environ.get(DEBUG_VARIABLE, "0") == "0":
        for name in ("aiokafka", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
