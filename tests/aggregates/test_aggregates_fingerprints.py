"""The fingerprint of an aggregate's shape changes with what a snapshot depends on, and with nothing else."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from pydantic import BaseModel

from eventstore import EventTypes
from eventstore.aggregates import Shape
from fixtures.shop import NoteTaken, Order, OrderEvent, OrderPlaced, OrderShipped, State, evolve, order


class WiderState(State):
    paid: bool = False


def same(data: dict[str, Any]) -> dict[str, Any]:
    return data


def registry(*, placed_version: int = 1, upcasters: int = 0, placed: type[BaseModel] = OrderPlaced) -> EventTypes:
    types = EventTypes()
    types.register("OrderPlaced", version=placed_version)(placed)
    types.register("OrderShipped")(OrderShipped)
    for version in range(1, upcasters + 1):
        types.upcaster("OrderPlaced", from_version=version)(same)
    return types


@dataclass(frozen=True)
class Code:
    """What may differ between two deployments."""

    state: type[State] = State
    placed_version: int = 2
    upcasters: int = 1
    snapshot_version: int = 1
    category: str = "order"
    events: Any = OrderEvent

    def fingerprint(self) -> str:
        shape = Shape(self.category, self.state, self.state, evolve, self.events, self.snapshot_version)
        return shape.fingerprint(registry(placed_version=self.placed_version, upcasters=self.upcasters))


BEFORE = Code()


@pytest.mark.parametrize(
    "after",
    [
        replace(BEFORE, state=WiderState),
        replace(BEFORE, placed_version=3),
        replace(BEFORE, upcasters=2),
        replace(BEFORE, snapshot_version=2),
        replace(BEFORE, category="orders"),
        replace(BEFORE, events=OrderPlaced),
    ],
    ids=["state", "event version", "upcaster", "snapshot_version", "category", "events"],
)
def test_a_change_that_snapshots_depend_on_changes_the_fingerprint(after: Code) -> None:
    assert after.fingerprint() != BEFORE.fingerprint()


def test_another_schema_of_an_event_changes_the_fingerprint() -> None:
    class Placed(BaseModel):
        sku: str
        quantity: float

    old = Shape("order", State, State, evolve, OrderPlaced).fingerprint(registry())
    assert Shape("order", State, State, evolve, Placed).fingerprint(registry(placed=Placed)) != old


@pytest.mark.parametrize(
    "events", [OrderEvent, OrderShipped | OrderPlaced], ids=["the same union", "the union in another order"]
)
def test_the_same_code_has_the_same_fingerprint(events: Any) -> None:
    assert replace(BEFORE, events=events).fingerprint() == BEFORE.fingerprint()


def test_an_event_of_somebody_else_leaves_the_fingerprint() -> None:
    types = registry()
    types.register("NoteTaken")(NoteTaken)

    assert Order.shape.fingerprint(types) == Order.shape.fingerprint(registry())


def test_a_class_and_a_decider_of_the_same_shape_share_their_snapshots() -> None:
    assert Order.shape.fingerprint(registry()) == order.shape.fingerprint(registry())


def test_each_registry_gets_its_own_fingerprint_also_where_another_one_was() -> None:
    """Registries that come and go can have the same address in memory."""
    shape = Shape("order", State, State, evolve, OrderEvent)
    fingerprints = [shape.fingerprint(registry(placed_version=1 + number % 2)) for number in range(20)]

    assert set(fingerprints[::2]).isdisjoint(fingerprints[1::2])
    assert len(set(fingerprints)) == 2
