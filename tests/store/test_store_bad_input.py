"""Input that no type checker would let through is refused in typed errors that say what is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import BaseModel

from eventstore import ANY, EventStore, EventTypes, Metadata, StreamId
from eventstore.bulk import ImportedEvent, JsonEvent, import_events
from eventstore.errors import ConfigurationError, EventStoreError, InvalidArgumentError
from fixtures.shop import Order, OrderPlaced, placed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

SURROGATE = "\ud800"


class Frozen(BaseModel, frozen=True):
    """An event that can be hashed."""

    sku: str


async def append(store: EventStore, **beside: Any) -> None:
    await store.append("order-1", [placed()], expected_version=ANY, metadata=Metadata(**beside))


async def run(store: EventStore, command_id: str) -> None:
    await store.repository(Order).execute("1", lambda order: order.place("tea"), command_id=command_id)


async def bring(store: EventStore, row: Any = None, name: Any = "old", **settings: Any) -> None:
    await import_events(store, [row or ImportedEvent("order-1", placed())], name=name, **settings)


async def bring_with(store: EventStore, **parts: Any) -> None:
    await bring(store, ImportedEvent("order-1", **{"data": placed(), **parts}))


async def read(store: EventStore, **arguments: Any) -> None:
    await store.read_all(**arguments).to_list()


async def bind(store: EventStore, connection: Any) -> None:
    async with store.bind(connection):
        pass


async def parse(_store: EventStore, text: Any) -> None:
    StreamId.parse(text)


async def register(_store: EventStore, version: Any) -> None:
    EventTypes().register("OrderPlaced", version=version)


BAD: dict[str, tuple[Callable[[EventStore], Awaitable[None]], str]] = {
    "a surrogate in a command's id": (lambda store: run(store, SURROGATE), "command_id must hold neither"),
    "a surrogate in an import's name": (lambda store: bring(store, name=SURROGATE), "name must hold neither"),
    "an import's name that is a number": (lambda store: bring(store, name=5), "name is a string, not int"),
    "a chunk that is no whole number": (lambda store: bring(store, chunk=1.5), r"chunk is .* not 1\.5"),
    "a row that is an event": (lambda store: bring(store, placed()), "ImportedEvent, not OrderPlaced"),
    "an imported id that is text": (lambda store: bring_with(store, event_id="a"), "event_id is a uuid.UUID, not str"),
    "imported metadata that is a dict": (
        lambda store: bring_with(store, metadata={"actor": "b"}),
        "Metadata, not dict",
    ),
    "a schema version that is text": (
        lambda store: bring_with(store, data=JsonEvent("OrderPlaced", {}, schema_version="1")),  # type: ignore[arg-type]
        "schema versions count from 1, not '1'",
    ),
    "extra metadata that is nothing": (lambda store: append(store, extra=None), "extra is a mapping .* not NoneType"),
    "extra metadata that is a list": (lambda store: append(store, extra=["ab"]), "extra is a mapping .* not list"),
    "models in a list": (lambda store: read(store, of=[OrderPlaced]), r"not a list: write A \| B"),
    "an event in a list": (lambda store: read(store, of=[placed(sku="hunter2")]), r"not a list: write A \| B"),
    "an event in a tuple": (lambda store: read(store, of=(Frozen(sku="hunter2"),)), "a tuple is not an event model"),
    "a number of categories": (lambda store: read(store, categories=5), "categories is a sequence"),
    "a connection that is none": (lambda store: bind(store, None), "asyncpg connection, not NoneType"),
    "a stream id that is nothing": (lambda store: parse(store, None), "string, not NoneType"),
    "a registered version that is text": (lambda store: register(store, "1"), "counts from 1, not '1'"),
}


@pytest.mark.parametrize(("call", "said"), BAD.values(), ids=BAD)
async def test_what_no_type_checker_lets_through_is_refused_with_what_is_wanted(
    store: EventStore, call: Callable[[EventStore], Awaitable[None]], said: str
) -> None:
    with pytest.raises(EventStoreError, match=said) as raised:
        await call(store)

    assert isinstance(raised.value, InvalidArgumentError | ConfigurationError)
    assert "hunter2" not in str(raised.value)
    assert await store.read_all().to_list() == []
