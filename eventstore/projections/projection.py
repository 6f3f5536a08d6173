"""The declaration of a projection: which events it takes, what it does with each, and the tables it keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore.db import DEFAULT_SCHEMA
from eventstore.db.queries import quoted
from eventstore.errors import ConfigurationError
from eventstore.projections.failing import Park, Stop
from eventstore.streams import category_of
from eventstore.subscriptions.interest import checked_categories
from eventstore.topics import require_topic_name

if TYPE_CHECKING:
    from pydantic import BaseModel

    from eventstore.codec import EventTypes
    from eventstore.db import Connection
    from eventstore.events import RecordedEvent
    from eventstore.projections.failing import FailurePolicy


@dataclass(frozen=True, slots=True)
class ProjectionContext:
    """What a handler may use.

    Attributes:
        connection: The asyncpg connection of the transaction that also moves the checkpoint. The read model's tables
            are found by their bare names.
        rebuilding: Whether the read model is being built anew from old events: do nothing then but write tables.
    """

    connection: Connection
    rebuilding: bool = False


Handler = Callable[["RecordedEvent[Any]", ProjectionContext], Awaitable[None]]
BatchHandler = Callable[[Sequence["RecordedEvent[Any]"], ProjectionContext], Awaitable[None]]
H = TypeVar("H", bound=Handler)
B = TypeVar("B", bound=BatchHandler)


@dataclass(frozen=True, slots=True)
class Handling:
    """How the events of a model are handled: one by one, or many at a time; exactly one of both is set."""

    each: Handler | None = None
    batch: BatchHandler | None = None


class Projection:
    """A read model and the handlers that build it.

    Args:
        name: Its name, an identifier: part of its tables' schema and of its checkpoint's name.
        version: Raise it when the tables or the handlers' meaning change; the new version builds tables of its own,
            beside the old ones.
        setup: SQL that makes its tables, with bare names; they live in a schema of their own, `<name>_v<version>`.
        tables: Instead of `setup`: the tables it keeps that your own migrations make, as `schema.table` or `table`.
        categories: Only events of streams of these categories; of all of them when left out. Named, they also say which
            topics its events come by, so that Kafka can feed it.
        inline: Run in the append's transaction, so that the read model is never behind. Keep it cheap: it holds the
            stream's lock.
        on_failure: What to do with an event that cannot be applied: `Stop` (the default) or `Park`. An inline
            projection has no choice: the append fails.
        dead_letters: The Kafka topic, made if need be, that records go to which are no events at all, when the
            projection is fed from Kafka. Left out, such a record stops the worker.

    Example:
        sales = Projection("sales", version=1, setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL)")

        @sales.on(OrderPlaced)
        async def count(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
            await ctx.connection.execute("INSERT INTO sales ...", event.data.sku, event.data.quantity)

    Raises:
        InvalidArgumentError: The categories are not what they must be.
        ConfigurationError: The name is no identifier, both `setup` and `tables` are given, an inline projection is told
            what to do on failure, or no topic can be called what `dead_letters` says.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        setup: str | None = None,
        tables: Sequence[str] = (),
        categories: Sequence[str] | None = None,
        inline: bool = False,
        on_failure: FailurePolicy | None = None,
        dead_letters: str | None = None,
    ) -> None:
        quoted(name)
        if (setup is None) == (not tables):
            raise ConfigurationError(
                f"projection {name!r} needs either setup= (SQL that makes its tables) or tables= (their names)"
            )
        if on_failure is not None and not isinstance(on_failure, Stop | Park):
            raise ConfigurationError(f"projection {name!r}: on_failure is Stop(...) or Park(...)")
        if inline and on_failure is not None:
            raise ConfigurationError(
                f"projection {name!r} is inline: an event that it cannot apply is not appended, so leave on_failure out"
            )
        if categories is not None and not categories:
            raise ConfigurationError(f"projection {name!r} has no categories: name some, or leave them out for all")
        require_topic_name(dead_letters, f"dead letters of projection {name!r}")
        self.name = name
        self.version = version
        self.setup = setup
        self.tables = tuple(tables)
        self.categories = checked_categories(categories)
        self.inline = inline
        self.on_failure = on_failure or Stop()
        self.dead_letters = dead_letters
        self._handlings: dict[type[BaseModel], Handling] = {}

    def on(self, *models: type[BaseModel]) -> Callable[[H], H]:
        """Register the handler of some event models.

        Raises:
            ConfigurationError: One of them has a handler already, or none is named.
        """
        self._require_models(models)

        def add(handler: H) -> H:
            self._add(models, Handling(each=handler))
            return handler

        return add

    def on_batch(self, *models: type[BaseModel]) -> Callable[[B], B]:
        """Register a handler that takes many events at once, so that it can write them with few statements.

        It is given what follows each other in the log and is its own to handle: a handler of all models of the
        projection is given whole batches, and the order of events is never changed. As several events may cause what
        it appends, it inherits no metadata.

        Example:
            @sales.on_batch(OrderPlaced)
            async def count(events: Sequence[RecordedEvent[OrderPlaced]], ctx: ProjectionContext) -> None:
                await ctx.connection.executemany("INSERT INTO sales ...", [(one.data.sku,) for one in events])

        Raises:
            ConfigurationError: One of them has a handler already, or none is named.
        """
        self._require_models(models)

        def add(handler: B) -> B:
            self._add(models, Handling(batch=handler))
            return handler

        return add

    def _require_models(self, models: Sequence[type[BaseModel]]) -> None:
        if not models or not all(isinstance(model, type) for model in models):
            raise ConfigurationError(f"projection {self.name!r}: name the events, as in @{self.name}.on(OrderPlaced)")

    def _add(self, models: Sequence[type[BaseModel]], handling: Handling) -> None:
        for model in models:
            if model in self._handlings:
                raise ConfigurationError(f"projection {self.name!r} has two handlers for {model.__qualname__}")
            self._handlings[model] = handling

    @property
    def consumer_name(self) -> str:
        """The name of its checkpoint, lease and Kafka group: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def schema(self) -> str | None:
        """The PostgreSQL schema of its tables; None when your own migrations make them."""
        return self.schema_in(DEFAULT_SCHEMA)

    def schema_in(self, store_schema: str) -> str | None:
        """Return the same beside a store that has another schema than the default: each has read models of its own."""
        if self.setup is None:
            return None
        prefix = "" if store_schema == DEFAULT_SCHEMA else f"{store_schema}_"
        return f"{prefix}{self.name}_v{self.version}"

    @property
    def models(self) -> frozenset[type[BaseModel]]:
        """The models it has handlers for."""
        return frozenset(self._handlings)

    def handling(self, model: type[BaseModel]) -> Handling | None:
        """Return how the events of a model are handled."""
        return self._handlings.get(model)

    def wants_stream(self, stream_id: str) -> bool:
        """Whether a stream is of one of its categories."""
        return self.categories is None or category_of(stream_id) in self.categories

    def stored_names(self, types: EventTypes) -> list[str]:
        """Return the stored names that can become an event it handles."""
        return sorted({types.of_model(model).name for model in self._handlings} | types.upcast_names())

    def __repr__(self) -> str:
        return f"Projection({self.consumer_name!r})"
