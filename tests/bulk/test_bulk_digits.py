"""Digits: a number comes into an event as it was written, or it is refused."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import count
from math import inf
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID, uuid4

import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    PrivateAttr,
    RootModel,
    create_model,
)
from pydantic_core import CoreSchema, core_schema
from typing_extensions import NamedTuple, TypedDict

from eventstore.bulk.json_text import JsonReader
from eventstore.bulk.models import model_from
from eventstore.errors import InvalidArgumentError

LONG = "12345678901234567.89"
T = TypeVar("T")


class Weight(BaseModel):
    grams: Decimal


class Kilos(BaseModel):
    kind: Literal["default"]
    grams: Decimal


class Pieces(BaseModel):
    kind: Literal["pieces"]
    number: int


class Pair(NamedTuple):
    one: Decimal
    other: Decimal


class Row(TypedDict):
    metadata: Decimal


class Box(BaseModel, Generic[T]):
    inside: T


class Money:
    """A type of the user's own, which keeps cents."""

    def __init__(self, amount: Any) -> None:
        self.cents = int(Decimal(str(amount)) * 100)

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(lambda money: money.cents)
        )


class Secret:
    """Another one, which cannot be written, and says what it holds."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: Any) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(lambda _: cls())

    def __eq__(self, other: object) -> bool:
        raise RuntimeError(LONG)

    __hash__ = None  # type: ignore[assignment]


def by_chance(amounts: Any) -> Any:
    return {uuid4().hex: amount for amount in amounts} if isinstance(amounts, list) else amounts


WANTS_DIGITS: Mapping[str, tuple[Any, str]] = {
    "a decimal": (Decimal, LONG),
    "an optional one": (Decimal | None, LONG),
    "an alternative of a text": (Decimal | str, LONG),
    "in a list": (list[Decimal], f"[{LONG}]"),
    "in a set": (frozenset[Decimal], f"[{LONG}]"),
    "in a dictionary": (dict[str, Decimal], f'{{"a": {LONG}}}'),
    "in a model": (Weight, f'{{"grams": {LONG}}}'),
    "in a generic model": (Box[Decimal], f'{{"inside": {LONG}}}'),
    "in a named tuple": (Pair, f"[1, {LONG}]"),
    "in a typed dictionary": (Row, f'{{"metadata": {LONG}}}'),
    "in a tagged union": (
        Annotated[Kilos | Pieces, Field(discriminator="kind")],
        f'{{"kind": "default", "grams": {LONG}}}',
    ),
    "behind a validator": (Annotated[Decimal, BeforeValidator(lambda given: given)], LONG),
    "rounded": (Annotated[Decimal, AfterValidator(lambda given: round(given, 2))], "123456789012345.678"),
    "turned round": (Annotated[Decimal, AfterValidator(lambda given: -given)], LONG),
    "as a text": (Annotated[str, BeforeValidator(str)], LONG),
    "made by a function": (Annotated[Any, PlainValidator(lambda given: Decimal(str(given)))], LONG),
    "a type of one's own": (Money, LONG),
    "one that cannot be written": (Secret, LONG),
    "a fraction": (Fraction, LONG),
    "an integer that is written with a point": (int, "9007199254740993.0"),
    "one that a float shows otherwise than it is": (int, "1152921504606847000.0"),
    "under names that come by chance": (
        Annotated[dict[str, Decimal], BeforeValidator(by_chance)],
        f"[{LONG}]",
    ),
    "an exponent without measure": (Decimal, "0e99999999999999999999999"),
}


@pytest.mark.parametrize("name", ["value", "metadata", "config", "default", "serialization", "type", "fields"])
@pytest.mark.parametrize("wants", WANTS_DIGITS)
def test_digits_that_a_float_has_no_room_for_are_refused_where_the_model_would_keep_them(wants: str, name: str) -> None:
    kind, text = WANTS_DIGITS[wants]
    fields: Any = {name: (kind, ...)}
    model = create_model("Weighed", **fields)

    with pytest.raises(InvalidArgumentError, match="more digits than a float keeps") as raised:
        read(model, f'{{"{name}": {text}}}')

    assert LONG not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Decimal, "1.10", Decimal("1.1")),
        (Decimal, f'"{LONG}"', Decimal(LONG)),
        (Decimal, "12345678901234567890", Decimal(12345678901234567890)),
        (Decimal, "1e-7", Decimal("1e-7")),
        (float, "0.10000000000000001", 0.1),
        (float, "1152921504606847000.0", 1152921504606847000.0),
        (float, "1.79769313486231571e308", 1.7976931348623157e308),
        (frozenset[float], "[0.1, 0.10000000000000001]", frozenset({0.1})),
        (Any, "0.10000000000000001", 0.1),
        (int, "9007199254740993", 9007199254740993),
        (dict[str, float], '{"a": 0.10000000000000001, "b": 0.10000000000000001}', {"a": 0.1, "b": 0.1}),
    ],
)
def test_what_nothing_is_lost_of_is_taken(kind: Any, text: str, value: object) -> None:
    event = read(create_model("Weighed", value=(kind, ...)), f'{{"value": {text}}}')

    assert event.model_dump() == {"value": value}


class Place(BaseModel):
    """Floats of many digits beside what wants digits, and what is other each time."""

    model_config = ConfigDict(extra="ignore")

    price: Decimal
    latitude: float = 0.1
    limit: float = inf
    key: UUID = Field(default_factory=uuid4)
    at: datetime | None = None
    age: timedelta | None = None
    _index: dict[str, Any] = PrivateAttr(default_factory=lambda: CYCLE)
    _compared: Any = PrivateAttr(default=lambda one: one)


CYCLE: dict[str, Any] = {}
CYCLE["itself"] = CYCLE


@pytest.mark.parametrize(
    "text",
    [
        '{"price": 0.1, "latitude": 0.10000000000000001}',
        '{"price": 0.1, "latitude": 0.1, "else": 0.10000000000000001}',
        '{"price": 3, "latitude": 2.9999999999999999999}',
        '{"price": 0.1, "at": 1317472200.1230000001, "age": 2.00000000000000001}',
    ],
)
def test_a_float_of_many_digits_is_taken_beside_what_wants_digits(text: str) -> None:
    assert read(Place, text).price in {Decimal("0.1"), 3}


@pytest.mark.parametrize("latitude", ["", ', "latitude": 0.1', ', "latitude": 0.10000000000000001', ', "latitude": 1'])
def test_a_decimal_loses_nothing_whatever_floats_stand_beside_it(latitude: str) -> None:
    with pytest.raises(InvalidArgumentError, match="digits"):
        read(Place, f'{{"price": 0.10000000000000001{latitude}}}')
    with pytest.raises(InvalidArgumentError, match="digits"):
        read(Place, f'{{"price": 1e-400{latitude}}}')


def test_a_bound_that_the_digits_exceed_is_exceeded() -> None:
    bounded = create_model("Bounded", value=(float, Field(le=90)))

    assert read(bounded, '{"value": 89.999999999999999999}').model_dump() == {"value": 90.0}
    with pytest.raises(InvalidArgumentError, match="digits"):
        read(bounded, '{"value": 90.000000000000000001}')


class Stop(BaseModel, frozen=True):
    name: str
    latitude: float


class Share(BaseModel, frozen=True):
    amount: Decimal
    key: str = Field(default_factory=lambda: uuid4().hex)


def test_a_set_has_no_order_that_could_change() -> None:
    stops = ", ".join(f'{{"name": "{name}", "latitude": 0.1000000000000000{name}}}' for name in range(1, 30))
    shares = f'[{{"amount": 1}}, {{"amount": 2}}, {{"amount": {LONG}}}]'
    for _ in range(50):
        read(create_model("Route", stops=(frozenset[Stop], ...)), f'{{"stops": [{stops}]}}')
        with pytest.raises(InvalidArgumentError, match="digits"):
            read(create_model("Shared", shares=(frozenset[Share], ...)), f'{{"shares": {shares}}}')


@pytest.mark.parametrize("ticks_at", range(1, 6))
def test_a_clock_that_goes_on_meanwhile_is_no_digit(ticks_at: int) -> None:
    readings = count()
    clock = Field(default_factory=lambda: int(next(readings) >= ticks_at))

    assert (
        read(create_model("Timed", at=(int, clock), value=(float, ...)), '{"value": 0.10000000000000001}').value == 0.1
    )


def test_what_chance_chooses_is_no_digit() -> None:
    side = Field(default_factory=lambda: random.choice("ab"))
    for _ in range(50):
        read(create_model("Tossed", side=(str, side), value=(float, ...)), '{"value": 0.10000000000000001}')


@pytest.mark.parametrize("many", [1, 5_000])
def test_however_many_numbers_there_are_they_are_read_four_times(many: int) -> None:
    readings = list[int]()

    def noted(points: list[float]) -> list[float]:
        readings.append(len(points))
        return points

    track = create_model("Track", points=(Annotated[list[float], AfterValidator(noted)], ...))
    numbers = ", ".join(f"{number}.10000000000000000001" for number in range(many))

    read(track, f'{{"points": [{numbers}]}}')

    assert readings == [many] * 4


def test_a_validator_that_fails_is_named_without_the_value() -> None:
    def failing(given: str) -> str:
        raise KeyError(given)

    with pytest.raises(InvalidArgumentError, match="KeyError") as raised:
        read(create_model("Touchy", secret=(Annotated[str, AfterValidator(failing)], ...)), '{"secret": "hunter2"}')

    assert "hunter2" not in str(raised.value)


def test_a_number_that_no_field_takes_is_nobodys_loss() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="ignore")
        price: Decimal

    assert read(Open, f'{{"price": "{LONG}", "else": {LONG}}}') == Open(price=Decimal(LONG))


def test_an_integer_beyond_all_floats_is_refused_for_a_float_and_taken_for_an_integer() -> None:
    huge = "1" + "0" * 400

    assert read(create_model("Counted", value=(int, ...)), f'{{"value": {huge}}}').model_dump() == {"value": 10**400}
    kinds: list[Any] = [float, Annotated[float, Field(ge=10)]]
    for kind in kinds:
        with pytest.raises(InvalidArgumentError, match="infinity"):
            read(create_model("Measured", value=(kind, ...)), f'{{"value": {huge}}}')


def test_the_names_of_a_root_model_are_its_own() -> None:
    class Balances(RootModel[dict[str, Decimal]]):
        pass

    assert read(Balances, '{"alice": 1.5}').model_dump() == {"alice": Decimal("1.5")}
    with pytest.raises(InvalidArgumentError, match="digits"):
        read(Balances, f'{{"alice": {LONG}}}')


def read(model: Callable[..., Any] | type[BaseModel], text: str) -> Any:
    return model_from(model, JsonReader().value(text))  # type: ignore[arg-type]
