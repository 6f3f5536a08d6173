"""Exit codes, and how errors reach people and machines: one sentence and the next step, never a traceback.

    0    done                                      4    conflict: somebody else came first, or ids used twice
    1    an error of the framework                 5    not found: no such stream, or not at that version or time
    2    wrong command line, setting or input      70   a defect, of the framework or of the application's code
    3    unavailable: a retry can help             130  interrupted

What an option names may also be named by a setting, a variable or a line of pyproject.toml: a DSN, application, schema
or address of brokers that is wrong, or that is needed and named nowhere, is 2 from either side. So is a worker or
category that the application does not have.

A pipe whose reader has gone away ends a command with 141, as it does elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from enum import Enum, IntEnum
from pathlib import Path
from typing import Any, Final

import typer
from rich.console import Console
from rich.text import Text

from eventstore.errors import (
    CodecError,
    ConcurrencyError,
    ConfigurationError,
    EventStoreError,
    IdempotencyError,
    InvalidArgumentError,
    InvalidDsnError,
    OutcomeUnknownError,
    UnavailableError,
)

DEBUG_VARIABLE: Final = "EVENTSTORE_DEBUG"


class ExitCode(IntEnum):
    """What the exit status of `eventstore` means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    CONFLICT = 4
    NOT_FOUND = 5
    DEFECT = 70
    INTERRUPTED = 130
    PIPE_CLOSED = 141


class NotFoundError(EventStoreError, LookupError):
    """What was asked for is not in the log: a stream, or its state at a version or time."""

    def __init__(self, stream_id: str, problem: str) -> None:
        self.stream_id = stream_id
        self.problem = problem
        super().__init__(f"{stream_id!r} {problem}")

    @classmethod
    def no_events(cls, stream_id: str) -> NotFoundError:
        """Return the error for a stream that does not exist."""
        return cls(stream_id, "has no events: check the id, `eventstore streams` lists what there is")


class WrongNameError(ConfigurationError):
    """What the command line or a setting names is not there, or cannot be what it is named as: name another."""


class MissingSettingError(ConfigurationError):
    """What the command works with is named nowhere, neither by an option nor by a setting: name it."""


@contextmanager
def named_by_the_user() -> Iterator[None]:
    """Take it for a mistake on the command line, or in a setting, if the block refuses what was named there.

    Raises:
        WrongNameError: In place of a ConfigurationError; a more special one stays what it is.
    """
    try:
        yield
    except ConfigurationError as error:
        if type(error) is not ConfigurationError:
            raise
        raise WrongNameError(str(error)) from error.__cause__


class SnapshotMismatchError(EventStoreError):
    """Snapshots disagree with a full replay: the code that folds has changed its meaning, and not its shape."""

    def __init__(self, stream_ids: Sequence[str]) -> None:
        self.stream_ids = tuple(stream_ids)
        super().__init__(
            f"{len(self.stream_ids)} snapshot(s) disagree with a full replay, the first of {self.stream_ids[0]!r}: "
            "raise the aggregate's snapshot_version, so that snapshots made by other code are not used"
        )


class FoldError(EventStoreError):
    """The application's `evolve` raised on an event; the event stays as it is."""

    def __init__(self, stream_id: str, reason: str, stream_version: int | None = None) -> None:
        self.stream_id = stream_id
        self.stream_version = stream_version
        self.reason = reason
        where = f"version {stream_version} of {stream_id!r}" if stream_version else f"{stream_id!r}"
        super().__init__(
            f"{where} cannot be folded, evolve raised {reason}: mend it ({DEBUG_VARIABLE}=1 shows the traceback)"
        )


class Interrupted(BaseException):
    """A signal ended the command before its work was done; like KeyboardInterrupt, nobody catches it on the way."""


_CODES: Final[tuple[tuple[type[EventStoreError] | tuple[type[EventStoreError], ...], ExitCode], ...]] = (
    ((ConcurrencyError, IdempotencyError), ExitCode.CONFLICT),
    ((UnavailableError, OutcomeUnknownError), ExitCode.UNAVAILABLE),
    ((InvalidArgumentError, InvalidDsnError, MissingSettingError, WrongNameError), ExitCode.USAGE),
)


def exit_code_of(error: EventStoreError) -> ExitCode:
    """Return the exit status that an error of the framework ends the command with."""
    if isinstance(error, LookupError):  # an aggregate or a stream that is not there
        return ExitCode.NOT_FOUND
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code
    return ExitCode.FAILED


@contextmanager
def reported(*, as_json: bool) -> Iterator[None]:
    """Report what the block raises on stderr, and end the command with the exit status that it means.

    Raises:
        typer.Exit: Something was reported.
    """
    try:
        yield
    except (typer.Exit, typer.Abort):
        raise
    except BaseExceptionGroup as group:
        code = _report(_first(group), as_json=as_json)
    except BaseException as error:  # noqa: BLE001 - the last place that can keep a traceback from a user
        code = _report(error, as_json=as_json)
    else:
        return
    raise typer.Exit(code)


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException, *, as_json: bool) -> ExitCode:
    if os.environ.get(DEBUG_VARIABLE, "0") != "0" and not hasattr(error, "format_message"):
        traceback.print_exception(error)
    match error:
        case EventStoreError():
            code = exit_code_of(error)
            _say(error, str(error), _facts(error) | {"retryable": error.retryable}, _hints(error), as_json=as_json)
        case Interrupted() | KeyboardInterrupt():
            code = ExitCode.INTERRUPTED
        case BrokenPipeError():
            code = ExitCode.PIPE_CLOSED
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the last flush would fail again
        case SystemExit():
            raise error
        case Exception() if hasattr(error, "format_message"):  # of the parser of the command line
            code = ExitCode.USAGE
            message = str(error.format_message())
            if not as_json and "://" not in message:
                raise error  # which shows the usage too
            _say("UsageError", message, {"retryable": False}, (), as_json=as_json)
        case _:
            code = ExitCode.DEFECT
            where = raised_at(error)
            message = f"unexpected {where}: a defect, please report it with what {DEBUG_VARIABLE}=1 shows"
            _say(error, message, {"retryable": False}, (), as_json=as_json)
    return code


def _say(
    error: BaseException | str, message: str, facts: dict[str, Any], hints: Iterable[str], *, as_json: bool
) -> None:
    name = error if isinstance(error, str) else type(error).__name__
    message = without_credentials(message)
    if as_json:
        document = {"error": name, "message": message, **facts}
        sys.stderr.write(without_credentials(json.dumps(document, default=str)) + "\n")
        return
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), printable(message)))
    for hint in hints:
        console.print(Text.assemble(("hint: ", "bold"), hint))


def _hints(error: EventStoreError) -> Iterator[str]:
    """Yield what an error's own sentence cannot know: the next step of somebody at a terminal."""
    if isinstance(error, OutcomeUnknownError):
        ids = ", ".join(str(event_id) for event_id in error.event_ids)
        yield f'append the same events again, each with its "event_id": {ids}'
    elif isinstance(error, CodecError) and getattr(error, "stream_version", None):
        yield "`eventstore read --raw` shows events as they are stored"


def _facts(error: EventStoreError) -> dict[str, Any]:
    return {name: _plain(value) for name, value in vars(error).items() if not name.startswith("_")}


def _plain(value: Any) -> Any:
    match value:
        case Enum():
            return str(value)
        case list() | tuple():
            return [_plain(item) for item in value]
        case None | bool() | int() | float() | str():
            return value
        case _:
            return str(value)


def raised_at(error: BaseException) -> str:
    """Return an exception's type and place, and not its text: that may hold a payload or a password."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def without_credentials(text: str) -> str:
    """Return a text with the user and password of every address in it left out, however they were mistyped."""
    return re.sub(r"(\w+://)(?!user:password@)\S*@", r"\1***@", text)  # but for the one that shows how to write them


def printable(text: str) -> str:
    """Return a text whose control characters are escaped: what is stored must not command the terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
