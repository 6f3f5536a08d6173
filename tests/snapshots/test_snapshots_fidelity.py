"""A snapshot that would come back as another state is not kept: it must never change a result."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import pytest
from pydantic import BaseModel, Field

from eventstore import Aggregate, EventStore
from eventstore.snapshots import take_snapshot, verify_snapshot
from eventstore.store import StoredSnapshot
from fixtures.shop import OrderPlaced, placed


class Hidden(BaseModel):
    """A state with a field that does not go into its JSON."""

    count: int = Field(default=0, exclude=True)


class Loose(BaseModel):
    """A state with a value that JSON has no word for."""

    seen: Any = ()


class Opaque(BaseModel):
    """A state with a value that cannot be written at all."""

    last: Any = None


@dataclass(frozen=True)
class Plain:
    """A state that is no model, and comes back as it is."""

    skus: tuple[str, ...] = ()


class Stage(StrEnum):
    PLACED = "placed"


@dataclass(frozen=True)
class Labelled:
    """A state whose member comes back as a text that is equal to it, and shown in another way."""

    stage: str = ""
    shown: str = ""


class HidingOrder(Aggregate[Hidden, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, _event: Hidden(count=state.count + 1))


class LooseOrder(Aggregate[Loose, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, event: Loose(seen=(*state.seen, event.sku)))


class OpaqueOrder(Aggregate[Opaque, OrderPlaced], category="order"):
    evolve = staticmethod(lambda _state, _event: Opaque(last=object()))


class LabelledOrder(Aggregate[Labelled, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, _event: Labelled(Stage.PLACED, state.shown + repr(state.stage)))


class PlainOrder(Aggregate[Plain, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, event: Plain((*state.skus, event.sku)))


@pytest.mark.parametrize("kind", [HidingOrder, LooseOrder, OpaqueOrder])
async def test_a_state_that_would_come_back_changed_is_not_kept(
    any_store: EventStore, kind: type[Aggregate[Any, Any]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "eventstore")
    await any_store.append("order-1", [placed(), placed(sku="hunter2")], expected_version=0)
    before = await any_store.repository(kind).load("1")

    await take_snapshot(any_store, kind.shape, "order-1")

    after = await any_store.repository(kind).load("1")
    assert type(after.state) is type(before.state)
    if kind is not OpaqueOrder:
        assert after.state == before.state
    assert await any_store.log.snapshot_versions(["order-1"], kind.shape.fingerprint(any_store.event_types)) == {}
    assert "does not come back" in caplog.text
    assert "hunter2" not in caplog.text


async def test_a_snapshot_never_changes_what_is_folded_onto_it(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=0)
    await take_snapshot(any_store, LabelledOrder.shape, "order-1")
    await any_store.append("order-1", [placed()], expected_version=1)
    loaded = await any_store.repository(LabelledOrder).load("1")

    await any_store.log.delete_snapshots("order-1")

    assert (await any_store.repository(LabelledOrder).load("1")).state == loaded.state


class Numbers(BaseModel):
    """A state whose set is iterated, and so written, in another order once it is made anew."""

    seen: set[int] = set()


class NumberedOrder(Aggregate[Numbers, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, event: Numbers.model_construct(seen=shrunken(state.seen, event.quantity)))


def shrunken(numbers: set[int], times: int) -> set[int]:
    """Return a set that was large, and keeps the order of that: taken out one by one, nothing moves."""
    kept = set(numbers or range(60))
    for number in range(60) if times == 2 else ():
        if number not in {2, 17}:
            kept.discard(number)
    return kept


async def test_a_set_that_is_written_in_another_order_agrees_with_the_replay(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(1), placed(2)], expected_version=0)
    await take_snapshot(any_store, NumberedOrder.shape, "order-1")

    verified = await verify_snapshot(any_store, NumberedOrder.shape, "order-1")

    assert verified.snapshot_version == 2
    assert verified.agrees


async def test_a_state_that_comes_back_is_kept(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed(), placed(sku="coffee")], expected_version=0)

    await take_snapshot(any_store, PlainOrder.shape, "order-1")

    fingerprint = PlainOrder.shape.fingerprint(any_store.event_types)
    assert list(await any_store.log.snapshot_versions(["order-1"], fingerprint)) == ["order-1"]
    assert (await any_store.repository(PlainOrder).load("1")).state == Plain(("tea", "coffee"))


class Picky(BaseModel):
    """A state whose validator raises what nobody expects."""

    count: int = 0

    def model_post_init(self, _context: Any) -> None:
        if self.count > 100:
            raise KeyError(self.count)


class PickyOrder(Aggregate[Picky, OrderPlaced], category="order"):
    evolve = staticmethod(lambda state, _event: Picky(count=state.count + 1))


async def test_a_snapshot_whose_state_raises_when_it_is_read_costs_a_replay(any_store: EventStore) -> None:
    await any_store.append("order-1", [placed()], expected_version=0)
    folded = await take_snapshot(any_store, PickyOrder.shape, "order-1")
    (event,) = await any_store.read_stream("order-1").to_list()
    await any_store.log.delete_snapshots("order-1")
    await any_store.log.save_snapshot(
        "order-1",
        PickyOrder.shape.fingerprint(any_store.event_types),
        StoredSnapshot(1, event.event_id, '{"count": 101}'),
    )

    assert (await any_store.repository(PickyOrder).load("1")).state == folded.state
