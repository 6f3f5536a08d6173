"""What every command has: settings, the application, the store, and where to print."""

import re
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Final

import typer

from eventstore.cli.loading import load_application
from eventstore.cli.output import Output
from eventstore.codec import EventTypes
from eventstore.config import Settings, load_settings
from eventstore.db import Database
from eventstore.errors import ConfigurationError
from eventstore.runtime import Application
from eventstore.store import EventStore
from eventstore.streams import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion

GLOBAL_FLAG: Final = "--json"
GLOBAL_OPTIONS: Final = frozenset({"--app", "--dsn", "--schema"})

NO_DATABASE: Final = (
    "no database: set EVENTSTORE_DSN (or pass --dsn) to its postgresql:// address; `eventstore dev` starts one"
)
NO_APPLICATION: Final = (
    'no application: pass --app module:object, set EVENTSTORE_APP, or write app = "module:object" under '
    "[tool.eventstore] in pyproject.toml"
)


def hoisted(args: Iterable[str]) -> list[str]:
    """Return the arguments with the global options in front, so that they may be written after the command too."""
    front, rest = [], []
    left = iter(args)
    for arg in left:
        name, equals, _ = arg.partition("=")
        if arg == "--":
            rest += [arg, *left]
        elif arg == GLOBAL_FLAG or (name in GLOBAL_OPTIONS and equals):
            front.append(arg)
        elif arg in GLOBAL_OPTIONS:
            front += [arg, *([value] if (value := next(left, None)) is not None else [])]
        else:
            rest.append(arg)
    return front + rest


@dataclass
class Cli:
    """What a command works with.

    Attributes:
        settings: Where things are.
        output: Where to print.
    """

    settings: Settings
    output: Output

    @property
    def as_json(self) -> bool:
        """Whether the results go to a machine."""
        return self.output.as_json

    @property
    def dsn(self) -> str:
        """The database's address.

        Raises:
            ConfigurationError: None is set.
        """
        if not self.settings.dsn:
            raise ConfigurationError(NO_DATABASE)
        return self.settings.dsn

    @cached_property
    def app(self) -> Application:
        """The application.

        Raises:
            ConfigurationError: None is named, or it cannot be loaded.
        """
        if not self.settings.app:
            raise ConfigurationError(NO_APPLICATION)
        return load_application(self.settings.app)

    @asynccontextmanager
    async def store(self, app: Application | None = None) -> AsyncIterator[EventStore]:
        """Open the store, for an application or without one.

        Raises:
            ConfigurationError: No database is set.
            UnavailableError: It cannot be reached.
            SchemaError: Its schema does not fit this code.
        """
        declared = app or Application("eventstore", events=EventTypes())
        settings = self.settings
        async with EventStore.open(self.dsn, declared, schema=settings.schema, pgbouncer=settings.pgbouncer) as store:
            yield store

    def database(self) -> Database:
        """Return the way to PostgreSQL, whatever its schema is; not opened yet.

        Raises:
            ConfigurationError: No database is set.
        """
        return Database(self.dsn, schema=self.settings.schema, pgbouncer=self.settings.pgbouncer)

    def brokers(self, given: str | None) -> str:
        """Return Kafka's brokers.

        Raises:
            ConfigurationError: None are set.
        """
        brokers = given or self.settings.kafka
        if not brokers:
            raise ConfigurationError("no Kafka: set EVENTSTORE_KAFKA (or pass --kafka) to its brokers, host:port,...")
        return brokers


def begin(*, app: str | None, dsn: str | None, schema: str | None, as_json: bool) -> Cli:
    """Return what a command works with; options win over the environment, which wins over pyproject.toml.

    Raises:
        ConfigurationError: pyproject.toml cannot be read.
    """
    settings = load_settings()
    given = replace(settings, app=app or settings.app, dsn=dsn or settings.dsn, schema=schema or settings.schema)
    return Cli(given, Output(as_json=as_json))


def cli_of(ctx: typer.Context) -> Cli:
    """Return what this invocation works with."""
    return ctx.ensure_object(Cli)


# --- values that commands take -------------------------------------------------------------------------------------


def parse_time(text: str) -> datetime:
    """Read a time of ISO 8601; a date is its midnight, and without a zone it is UTC.

    Raises:
        typer.BadParameter: It is none.
    """
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a time: write 2024-05-01, or 2024-05-01T12:30:00Z") from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def parse_expected(text: str) -> int | ExpectedVersion:
    """Read the version that a writer expects.

    Raises:
        typer.BadParameter: It is none.
    """
    named = {"any": ANY, "none": NO_STREAM, "exists": STREAM_EXISTS}.get(text.lower())
    if named is not None:
        return named
    if not re.fullmatch(r"\d{1,18}", text, re.ASCII):
        raise typer.BadParameter(f"{text!r} is not a version: write none, exists, any, or a number from 0")
    return int(text)
