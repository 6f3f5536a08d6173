"""The declaration of a projection: which events it takes, what it does with each, and the tables it keeps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from eventstore.db.queries import quoted
from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    from pydantic import BaseModel

    from eventstore.codec import EventTypes
    from eventstore.db import Connection
    from eventstore.events import RecordedEvent


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
H = TypeVar("H", bound=Handler)


class Projection:
    """A read model and the handlers that build it.

    Args:
        name: Its name, an identifier: part of its tables' schema and of its checkpoint's name.
        version: Raise it when the tables or the handlers' meaning change; the new version builds tables of its own,
            beside the old ones.
        setup: SQL that makes its tables, with bare names; they live in a schema of their own, `<name>_v<version>`.
        tables: Instead of `setup`: the tables it keeps that your own migrations make, as `schema.table` or `table`.
        inline: Run in the append's transaction, so that the read model is never behind. Keep it cheap: it holds the
            stream's lock.

    Example:
        sales = Projection("sales", version=1, setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL)")

        @sales.on(OrderPlaced)
        async def count(event: RecordedEvent[OrderPlaced], ctx: ProjectionContext) -> None:
            await ctx.connection.execute("INSERT INTO sales ...", event.data.sku, event.data.quantity)

    Raises:
        ConfigurationError: The name is no identifier, or both `setup` and `tables` are given.
    """

    def __init__(
        self,
        name: str,
        *,
        version: int = 1,
        setup: str | None = None,
        tables: Sequence[str] = (),
        inline: bool = False,
    ) -> None:
        quoted(name)
        if (setup is None) == (not tables):
            raise ConfigurationError(
                f"projection {name!r} needs either setup= (SQL that makes its tables) or tables= (their names)"
            )
        self.name = name
        self.version = version
        self.setup = setup
        self.tables = tuple(tables)
        self.inline = inline
        self._handlers: dict[type[BaseModel], Handler] = {}

    def on(self, *models: type[BaseModel]) -> Callable[[H], H]:
        """Register the handler of some event models.

        Raises:
            ConfigurationError: One of them has a handler already, or none is named.
        """
        if not models or not all(isinstance(model, type) for model in models):
            raise ConfigurationError(f"projection {self.name!r}: name the events, as in @{self.name}.on(OrderPlaced)")

        def add(handler: H) -> H:
            for model in models:
                if model in self._handlers:
                    raise ConfigurationError(f"projection {self.name!r} has two handlers for {model.__qualname__}")
                self._handlers[model] = handler
            return handler

        return add

    @property
    def consumer_name(self) -> str:
        """The name of its checkpoint, lease and Kafka group: `name@version`."""
        return f"{self.name}@{self.version}"

    @property
    def schema(self) -> str | None:
        """The PostgreSQL schema of its tables; None when your own migrations make them."""
        return f"{self.name}_v{self.version}" if self.setup is not None else None

    @property
    def models(self) -> frozenset[type[BaseModel]]:
        """The models it has handlers for."""
        return frozenset(self._handlers)

    def handler(self, model: type[BaseModel]) -> Handler | None:
        """Return the handler of a model."""
        return self._handlers.get(model)

    def stored_names(self, types: EventTypes) -> list[str]:
        """Return the stored names that can become an event it handles."""
        return sorted({types.of_model(model).name for model in self._handlers} | types.upcast_names())

    def __repr__(self) -> str:
        return f"Projection({self.consumer_name!r})"
