"""What every command has: settings, the application, the store, and where to print."""

import os
import re
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

import typer

from eventstore.aggregates import Shape
from eventstore.cli.errors import MissingSettingError, named_by_the_user
from eventstore.cli.loading import load_application
from eventstore.cli.output import Output
from eventstore.codec import EventTypes
from eventstore.config import Settings, load_settings
from eventstore.db import Database
from eventstore.db.queries import quoted
from eventstore.outbox import Publisher
from eventstore.projections import Projection
from eventstore.runtime import Application
from eventstore.store import EventStore
from eventstore.streams import ANY, NO_STREAM, STREAM_EXISTS, ExpectedVersion, category_of
from eventstore.subscriptions import Subscription

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings

T = TypeVar("T")

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
        names_app: Whether this very invocation names an application, by an option or a variable and not in a file.
    """

    settings: Settings
    output: Output
    names_app: bool = False

    @property
    def as_json(self) -> bool:
        """Whether the results go to a machine."""
        return self.output.as_json

    @property
    def dsn(self) -> str:
        """The database's address.

        Raises:
            MissingSettingError: None is set.
        """
        if not self.settings.dsn:
            raise MissingSettingError(NO_DATABASE)
        return self.settings.dsn

    @cached_property
    def app(self) -> Application:
        """The application.

        Raises:
            MissingSettingError: None is named.
            WrongNameError: It cannot be loaded.
        """
        if not self.settings.app:
            raise MissingSettingError(NO_APPLICATION)
        return load_application(self.settings.app)

    def shape_of(self, stream_id: str) -> Shape[Any]:
        """Return how a stream that was named folds.

        Raises:
            WrongNameError: No aggregate of the application has its category.
        """
        return self.shape(category_of(stream_id))

    def shape(self, category: str) -> Shape[Any]:
        """Return how the streams of a category that was named fold.

        Raises:
            WrongNameError: No aggregate of the application has it.
        """
        return self._named(Application.shape, category)

    def projection(self, name: str) -> Projection:
        """Return a projection that was named.

        Raises:
            WrongNameError: The application has none of that name.
        """
        return self._named(Application.projection, name)

    def publisher(self, name: str) -> Publisher:
        """Return a publisher that was named.

        Raises:
            WrongNameError: The application has none of that name.
        """
        return self._named(Application.publisher, name)

    def _named(self, find: Callable[[Application, str], T], name: str) -> T:
        app = self.app  # what is wrong with the application itself is no wrong name
        with named_by_the_user():
            return find(app, name)

    def subscription(self, name: str) -> Subscription:
        """Return a subscription that was named.

        Raises:
            WrongNameError: The application has none of that name.
        """
        app = self.app
        with named_by_the_user():
            return app.subscription(name)

    def check_app(self) -> None:
        """Refuse a wrong application where none is needed: whoever names one means it.

        Raises:
            WrongNameError: It cannot be loaded.
        """
        if self.names_app:
            _ = self.app

    @asynccontextmanager
    async def store(self, app: Application | None = None) -> AsyncIterator[EventStore]:
        """Open the store, for an application or without one.

        Raises:
            MissingSettingError: No database is set.
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
            MissingSettingError: No database is set.
        """
        return Database(self.dsn, schema=self.settings.schema, pgbouncer=self.settings.pgbouncer)

    def kafka(self, given: str | None) -> "KafkaSettings":
        """Return how to reach Kafka.

        Raises:
            MissingSettingError: None are set.
            WrongNameError: They are not written as brokers are.
        """
        brokers = given or self.settings.kafka
        if not brokers:
            raise MissingSettingError("no Kafka: set EVENTSTORE_KAFKA (or pass --kafka) to its brokers, host:port,...")
        from eventstore.kafka.settings import KafkaSettings  # noqa: PLC0415 - loads the Kafka client, which few need

        with named_by_the_user():
            return KafkaSettings.from_environment(brokers)


def begin(*, app: str | None, dsn: str | None, schema: str | None, as_json: bool) -> Cli:
    """Return what a command works with; options win over the environment, which wins over pyproject.toml.

    Raises:
        WrongNameError: pyproject.toml cannot be read, or the schema's name cannot be one.
    """
    with named_by_the_user():
        settings = load_settings()
        given = replace(settings, app=app or settings.app, dsn=dsn or settings.dsn, schema=schema or settings.schema)
        quoted(given.schema)
    return Cli(given, Output(as_json=as_json), names_app=bool(app or os.environ.get("EVENTSTORE_APP")))


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
