"""What can be wrong with an import; like all errors of the framework, they show no data."""

from __future__ import annotations

from eventstore.errors import ConcurrencyError, ConfigurationError, InvalidArgumentError, UnknownEventTypeError


class ImportRowError(InvalidArgumentError):
    """A row of the source cannot become an event: nothing of its chunk was imported, everything before its chunk was.

    Attributes:
        row: Its number in the source, from 1.
        line: Its line in the file that it came from, if it came from one.
        problem: What is wrong with it.
        imported: How many rows are in the log; an import of the same name goes on behind them.
    """

    def __init__(self, row: int, problem: str, *, line: int | None = None) -> None:
        self.row = row
        self.line = line
        self.problem = problem
        self.imported = 0
        super().__init__(row, problem)

    def __str__(self) -> str:
        """Say where, what, and how to go on."""
        where = f"row {self.row}" if self.line is None else f"line {self.line}"
        so_far = f"the first {self.imported} rows are in the log" if self.imported else "nothing was imported"
        return f"{where}: {self.problem}; {so_far}: mend the source and run the import again, it goes on there"


class ImportVersionError(ImportRowError):
    """A row names a stream version that is not the next one of its stream in the log."""

    def __init__(self, row: int, stream_id: str, expected: int, found: int, *, line: int | None = None) -> None:
        self.stream_id = stream_id
        self.expected = expected
        self.found = found
        super().__init__(
            row,
            f"it says version {found} of {stream_id!r}, whose next one is {expected} (import without versions to "
            "number the events anew)",
            line=line,
        )


class ImportUnknownTypeError(UnknownEventTypeError):
    """A row's event type is not registered: no model can show that the event can be read."""

    def __str__(self) -> str:
        """Say what to do."""
        return (
            f"the event type {self.event_type!r} is not registered: register its model, or import events of unknown "
            "types that say their schema version as they are, with unknown='keep' (--keep-unknown)"
        )


class ImportChangedError(InvalidArgumentError):
    """The source is not the one that this import began with: its rows that are in the log are not the same ones."""

    def __init__(self, name: str, row: int, problem: str) -> None:
        self.name = name
        self.row = row
        self.problem = problem
        super().__init__(
            f"the import {name!r} has brought in {row} rows, and {problem}: pass the source that it began with, or "
            "give this import another name"
        )


class ImportBusyError(ConcurrencyError):
    """Another run of the same import is at work; let one of them finish."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(
            f"another run of the import {name!r} is at work: wait for it, or stop it and run this one again"
        )


class InlineProjectionsError(ConfigurationError):
    """An import does not run inline projections, so that their read models would miss its events."""

    def __init__(self, event_type: str) -> None:
        self.event_type = event_type
        super().__init__(
            f"an inline projection wants {event_type!r}, and imports do not run it: import with skip_inline=True "
            "(--skip-inline), and rebuild the projection afterwards"
        )
