"""Scenarios say what an aggregate decides, and when they fail, what it decided instead."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from eventstore import NewEvent
from eventstore.errors import InvalidArgumentError
from eventstore.testing import given
from fixtures.shop import SHIPPED, NoteTaken, NotPlacedError, Order, OrderShipped, PlaceOrder, State, order, placed


def ship(one: Order) -> None:
    one.ship("dhl")


def place_and_ship(one: Order) -> None:
    one.place("tea")
    one.ship("dhl")


# --- what holds ----------------------------------------------------------------------------------------------------


def test_a_command_on_an_aggregate_with_a_past_leads_to_its_events() -> None:
    given(Order, placed()).when(lambda o: o.ship("dhl")).then(OrderShipped(carrier="dhl"))


def test_a_command_on_a_new_aggregate() -> None:
    given(Order).when(lambda o: o.place("tea", 2)).then(placed(2)).then_state(State(status="placed", quantity=2))


def test_a_refused_command_leads_to_its_error() -> None:
    error = given(Order).when(ship).raises(NotPlacedError, match="1")

    assert isinstance(error, NotPlacedError)


def test_a_command_that_decides_nothing() -> None:
    given(Order, placed()).when(lambda _: None).then()


def test_a_decider() -> None:
    given(order).when(PlaceOrder(sku="tea")).then(placed()).then_state(status="placed", quantity=1)
    given(order, placed(), SHIPPED).when(PlaceOrder(sku="tea")).then().then_state(status="shipped")


def test_some_fields_of_the_state_are_enough() -> None:
    given(Order, placed(3)).when(ship).then_state(status="shipped").then_state(quantity=3)


def test_the_key_can_be_said() -> None:
    assert str(given(Order, key="42").when(ship).raises(NotPlacedError)) == "42"


def test_each_scenario_begins_anew() -> None:
    scenario = given(Order, placed())

    scenario.when(ship).then(SHIPPED)
    given(Order, placed()).when(ship).then(SHIPPED)


def test_the_same_past_can_be_used_for_several_commands() -> None:
    scenario = given(Order, placed())

    scenario.when(ship).then(SHIPPED)
    scenario.when(ship).then(SHIPPED)


def test_events_with_a_time_of_their_own_are_compared_by_their_data() -> None:
    def decide(_: PlaceOrder, __: State) -> list[NewEvent]:
        return [NewEvent(placed())]

    given(replace(order, decide=decide)).when(PlaceOrder(sku="tea")).then(placed())


# --- what does not -------------------------------------------------------------------------------------------------

FAILURES: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "another event": (
        lambda: given(Order, placed()).when(ship).then(OrderShipped(carrier="ups")),
        ["-     carrier='ups',", "+     carrier='dhl',", "  OrderShipped("],
    ),
    "an event too many": (lambda: given(Order, placed()).when(ship).then(), ["- (nothing)", "+ OrderShipped("]),
    "an event too few": (
        lambda: given(Order, placed()).when(lambda _: None).then(SHIPPED),
        ["- OrderShipped(", "+ (nothing)"],
    ),
    "another order": (
        lambda: given(Order).when(place_and_ship).then(SHIPPED, placed()),
        ["- OrderShipped(", "  OrderPlaced(", "+ OrderShipped("],
    ),
    "another state": (
        lambda: given(Order, placed()).when(ship).then_state(State(status="placed", quantity=1)),
        ["-     status='placed',", "+     status='shipped',"],
    ),
    "another field": (
        lambda: given(Order, placed()).when(ship).then_state(quantity=2),
        ["-     quantity=2,", "+     quantity=1,"],
    ),
    "refused instead of events": (lambda: given(Order).when(ship).then(SHIPPED), ["was refused", "NotPlacedError"]),
    "refused instead of a state": (lambda: given(Order).when(ship).then_state(quantity=1), ["was refused"]),
    "events instead of an error": (
        lambda: given(Order, placed()).when(ship).raises(NotPlacedError),
        ["NotPlacedError was not raised", "+ OrderShipped("],
    ),
    "another error": (
        lambda: given(Order).when(ship).raises(ZeroDivisionError),
        ["NotPlacedError('1') was raised instead of ZeroDivisionError"],
    ),
    "another message": (lambda: given(Order).when(ship).raises(NotPlacedError, match="42"), ["'42'"]),
}


@pytest.mark.parametrize(("scenario", "shown"), FAILURES.values(), ids=FAILURES)
def test_a_scenario_that_does_not_hold_fails_and_shows_the_difference(
    scenario: Callable[[], Any], shown: list[str]
) -> None:
    with pytest.raises(AssertionError) as raised:
        scenario()
    for line in shown:
        assert line in str(raised.value)


def test_an_unexpected_error_is_the_cause_of_the_failure() -> None:
    with pytest.raises(AssertionError) as raised:
        given(Order).when(ship).then()
    assert isinstance(raised.value.__cause__, NotPlacedError)


async def later(_: Order) -> None:
    """A command that only a store can run."""


MISUSES: dict[str, Callable[[], Any]] = {
    "a past of somebody else's": lambda: given(Order, NoteTaken(text="x")),
    "a state that expects nothing": lambda: given(Order).when(lambda _: None).then_state(),
    "an asynchronous command": lambda: given(Order).when(later),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_a_scenario_that_cannot_be_meant_is_refused(misuse: Callable[[], Any]) -> None:
    with pytest.raises(InvalidArgumentError):
        misuse()
