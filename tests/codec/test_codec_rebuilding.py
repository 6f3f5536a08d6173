"""Models that are completed late, rebuilt while they are in use, or never complete."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import BaseModel, create_model

from eventstore import Aggregate, Application, EventStore, EventTypes
from eventstore.bulk import JsonEvent
from eventstore.bulk.encoding import RowEncoder
from eventstore.codec.selection import EVERYTHING
from eventstore.errors import ConfigurationError
from eventstore.metadata import NO_METADATA
from eventstore.store import AppendRequest
from eventstore.store.log import LogRange
from eventstore.testing import memory_store

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


def store_of(model: type[BaseModel]) -> EventStore:
    """Return a store in memory for one model."""
    types = EventTypes()
    types.register("Measured")(model)
    return memory_store(Application("meter", events=types))


async def test_a_model_that_is_rebuilt_is_read_as_it_is_now() -> None:
    model = create_model("Measured", level=(int, ...))
    store = store_of(model)
    await store.append("meter-1", [model.model_validate({"level": 1})], expected_version=0)
    decoder = store.codec.pages(EVERYTHING)  # kept, as workers keep it
    page = (await store.log.read_all(LogRange(), 0, 10, 10)).events
    (before,) = decoder.events(page)

    model.model_fields["level"].annotation = float
    model.model_rebuild(force=True)
    await store.append("meter-1", [model.model_validate({"level": 1.5})], expected_version=1)
    (after,) = decoder.events(page)

    assert [type(each.data.model_dump()["level"]) for each in (before, after)] == [int, float]
    assert [event.data.model_dump()["level"] async for event in store.read_stream("meter-1")] == [1.0, 1.5]


class Unfinished(BaseModel):
    level: Nowhere  # type: ignore[name-defined]  # noqa: F821 - never defined


class Meter(Aggregate[dict[str, int], Unfinished], category="meter"):
    evolve = staticmethod(lambda state, _event: state)


@pytest.fixture
async def unfinished() -> EventStore:
    """A store with an event whose model is never complete."""
    store = store_of(Unfinished)
    finished = create_model("Measured", level=(int, ...))
    encoded = store_of(finished).codec.encode(finished.model_validate({"level": 1}), NO_METADATA)
    await store.log.append([AppendRequest("meter-1", 0, 0, [encoded], look_up_ids=False)], wait=True)
    return store


USES: dict[str, Callable[[EventStore], Awaitable[object]]] = {
    "read": lambda store: store.read_stream("meter-1").to_list(),
    "append": lambda store: store.append("meter-2", [Unfinished.model_construct(level=1)], expected_version=0),
    "load": lambda store: store.repository(Meter).load("1"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
async def test_a_model_that_is_never_complete_is_named_with_what_to_do(
    unfinished: EventStore, use: Callable[[EventStore], Awaitable[object]]
) -> None:
    with pytest.raises(ConfigurationError, match=r"Unfinished is not complete: .*Unfinished\.model_rebuild\(\)"):
        await use(unfinished)


def test_an_import_names_it_too(unfinished: EventStore) -> None:
    encoder = RowEncoder(unfinished.codec, "old")

    with pytest.raises(ConfigurationError, match="Unfinished is not complete"):
        encoder._content(JsonEvent("Measured", {"level": 1}), "meter-1")


async def test_a_model_may_be_completed_after_it_is_registered() -> None:
    class Late(BaseModel):
        level: Level

    store = store_of(Late)

    class Level(BaseModel):
        metres: int

    Late.model_rebuild()
    await store.append("meter-1", [Late(level=Level(metres=1))], expected_version=0)

    assert [event.data async for event in store.read_stream("meter-1")] == [Late(level=Level(metres=1))]
