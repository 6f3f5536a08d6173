"""Models so plain that types prove the round trip: never more is proven than the round trip itself would."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from typing import Annotated, Any, Literal, Self
from uuid import UUID

import asyncpg.pgproto.pgproto
import pytest
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    StringConstraints,
    computed_field,
    create_model,
    field_serializer,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema

from eventstore.codec import payload
from eventstore.errors import UnstorablePayloadError
from fixtures.plain_models import Shade, Text, is_plain, is_taken


class Inner(BaseModel):
    name: str
    weights: list[float] = []


class Outer(BaseModel):
    """All that is plain."""

    text: str
    code: Annotated[str, Field(min_length=2, max_length=4)] = "code"
    whole: int = 0
    count: Annotated[int, Field(gt=0, le=10)] = 1
    real: Annotated[float, Field(ge=-1)] = 0.5
    flag: bool = False
    maybe: str | None = None
    identity: UUID = UUID(int=1)
    day: date = date(2024, 1, 1)
    moment: datetime = datetime(2024, 1, 1, 1, 1, 1, 1, tzinfo=UTC)
    tags: list[str] = []
    lists: list[list[int | None]] = []
    table: dict[str, float] = {}
    one: Inner = Inner(name="one")
    more: list[Inner] = []
    named: dict[str, Inner | None] = {}


def test_an_event_of_a_plain_model_is_proven_by_types() -> None:
    assert is_taken(Outer(text="x"))
    assert is_taken(
        Outer(
            text="é\u2028\U0001f600",
            whole=-(10**400),
            real=1e22,
            tags=["a", "b"],
            lists=[[], [1, None]],
            table={"": -0.0},
            more=[Inner(name="x", weights=[5e-324])],
            named={"a": None, "b": Inner(name="")},
        )
    )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("text", Text("x")),
        ("text", Shade.RED),
        ("text", None),
        ("code", "x"),
        ("code", "x" * 5),
        ("whole", True),
        ("whole", 1.0),
        pytest.param("whole", 10**5000, id="digits"),
        ("count", 0),
        ("count", 11),
        ("real", 1),
        ("real", math.nan),
        ("real", math.inf),
        ("real", -2.0),
        ("flag", 1),
        ("identity", asyncpg.pgproto.pgproto.UUID(bytes(16))),
        ("day", datetime(2024, 1, 1, tzinfo=UTC)),
        ("moment", datetime(2024, 1, 1)),  # noqa: DTZ001 - naive
        ("moment", datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=30)))),
        ("tags", ("a",)),
        ("tags", [1]),
        ("lists", [[1.5]]),
        ("table", {1: 1.5}),
        ("table", {"a": math.nan}),
        pytest.param("table", {"\ud800": 1.5}, id="name"),
        ("one", Inner.model_construct(name="x", weights=[math.nan])),
        ("one", Inner.model_construct()),
        ("more", [Inner.model_construct(name=1)]),
        ("named", {"a": 1}),
        ("surplus", 1),
    ],
)
def test_a_value_that_types_do_not_prove_is_left_to_the_round_trip(field: str, value: object) -> None:
    event = Outer(text="x")
    event.__dict__[field] = value

    assert not is_taken(event)


def test_a_missing_field_is_left_to_the_round_trip() -> None:
    assert not is_taken(Outer.model_construct())

    event = Inner(name="x")
    del event.__dict__["weights"]
    event.__dict__["cached"] = []
    assert not is_taken(event)


@pytest.mark.parametrize("slot", ["__pydantic_extra__", "__pydantic_private__"])
def test_what_stands_beside_the_fields_is_left_to_the_round_trip(slot: str) -> None:
    event = Inner(name="x")
    object.__setattr__(event, slot, {"_x": 1})
    assert not is_taken(event)

    object.__delattr__(event, slot)
    assert not is_taken(event)


def test_a_long_event_is_left_to_the_round_trip() -> None:
    assert is_taken(Outer(text="x" * 3000))
    assert not is_taken(Outer(text="x" * 5000))


class Private(BaseModel):
    a: int = 0
    _b: int = PrivateAttr(default=0)


class Computed(BaseModel):
    a: int = 0

    @computed_field
    def b(self) -> int:
        return 1


class Serialised(BaseModel):
    a: int = 0

    @field_serializer("a")
    def _a(self, value: int) -> int:
        return value // 2


class SerialisedWhole(BaseModel):
    a: int = 0

    @model_serializer
    def _whole(self) -> dict[str, int]:
        return {"a": 1}


class Validated(BaseModel):
    a: int = 0

    @model_validator(mode="after")
    def _check(self) -> Validated:
        return self


class Constructed(BaseModel):
    a: int = 0

    def __init__(self, **data: Any) -> None:
        super().__init__(**data | {"a": 1})


class MadeByItself(BaseModel):
    """Can be written, and not be read: pydantic makes it without arguments."""

    a: int

    def __new__(cls, a: int) -> Self:  # noqa: ARG004 - what makes it unreadable
        return super().__new__(cls)


class Recursive(BaseModel):
    more: list[Recursive] = []


class Holding(BaseModel):
    one: Validated


class Replaced:
    """An annotation that puts a plain schema in the place of a class's own."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = {"a": core_schema.model_field(core_schema.int_schema())}
        return core_schema.model_schema(cls=source, schema=core_schema.model_fields_schema(fields))


class Twice(BaseModel):
    """Its schema has the nested one in its definitions."""

    one: Inner
    other: Inner


def field(kind: Any, settings: ConfigDict | None = None) -> type[BaseModel]:
    """Return a model with one field."""
    return create_model("Model", a=(kind, ...), __config__=settings)


@pytest.mark.parametrize(
    "model",
    [
        Private,
        Computed,
        Serialised,
        SerialisedWhole,
        Validated,
        Constructed,
        Recursive,
        Holding,
        MadeByItself,
        RootModel[int],
        field(Any),
        field(object),
        field(Annotated[Serialised, Replaced()]),
        field(list[Annotated[Validated, Replaced()]]),
        field(bytes),
        field(Shade),
        field(int | str),
        field(tuple[int, ...]),
        field(set[int]),
        field(list),
        field(dict),
        field(dict[int, str]),
        field(Literal["a"]),
        field(timedelta),
        field(Annotated[str, StringConstraints(strip_whitespace=True)]),
        field(Annotated[str, StringConstraints(to_lower=True)]),
        field(Annotated[str, Field(pattern="x")]),
        field(Annotated[int, Field(multiple_of=2)]),
        field(Annotated[int, AfterValidator(abs)]),
        field(Annotated[int, PlainSerializer(str)]),
        field(Annotated[int, Field(alias="b")]),
        field(Annotated[int, Field(serialization_alias="b")]),
        field(Annotated[int, Field(exclude=True)]),
        field(Annotated[int, Field(exclude_if=bool)]),
        field(Annotated[list[int], Field(max_length=2)]),
        field(str, ConfigDict(extra="allow")),
        field(str, ConfigDict(str_strip_whitespace=True)),
        field(str, ConfigDict(str_to_upper=True)),
        field(str, ConfigDict(str_max_length=2)),
        field(str, ConfigDict(coerce_numbers_to_str=True)),
        field(str, ConfigDict(alias_generator=str.upper)),
        field(datetime, ConfigDict(ser_json_temporal="milliseconds")),
        field(float, ConfigDict(ser_json_inf_nan="constants")),
    ],
    ids=str,
)
def test_a_model_that_could_change_a_value_is_not_plain(model: type[BaseModel]) -> None:
    assert not is_plain(model)


@pytest.mark.parametrize(
    "model",
    [
        Outer,
        Twice,
        field(int, ConfigDict(frozen=True, extra="forbid", strict=True)),
        field(datetime | None),
        field(dict[str, list[bool]]),
    ],
    ids=str,
)
def test_a_model_that_changes_nothing_is_plain(model: type[BaseModel]) -> None:
    assert is_plain(model)


def test_a_nested_model_is_written_as_its_class_says_whatever_an_annotation_says() -> None:
    """Taken at the annotation's word, half of the value would be lost in silence."""
    holding = field(Annotated[Serialised, Replaced()])

    with pytest.raises(UnstorablePayloadError, match="come back changed in a "):
        payload.encode(holding(a=Serialised(a=3)), "Holding", 100)


@pytest.mark.parametrize(
    ("bounds", "value"),
    [(Field(lt=Decimal("0.7")), 0.7), (Field(gt=Decimal("0.1")), 0.1), (Field(lt=2**53 + 1), 2.0**53)],
    ids=str,
)
def test_the_bounds_of_a_float_are_floats(bounds: Any, value: float) -> None:
    """Pydantic rounds them; compared as they were written, a value could be stored and not be read again."""
    assert not is_taken(field(Annotated[float, bounds]).model_construct(a=value))


def test_a_cached_property_and_a_rebuilt_model_are_seen() -> None:
    class Cached(BaseModel):
        a: int = 0

        @cached_property
        def b(self) -> int:
            return 1

    event = Cached()
    assert is_taken(event)
    assert event.b == 1
    assert not is_taken(event)  # and the round trip takes it
    assert payload.encode(event, "Cached", 100) == '{"a":0}'

    Cached.model_fields["a"].annotation = Literal[0]
    Cached.model_rebuild(force=True)
    assert not is_plain(Cached)


def test_a_nul_in_a_plain_model_is_refused() -> None:
    with pytest.raises(UnstorablePayloadError, match="NUL"):
        payload.encode(Inner(name="\x00"), "Inner", 1000)
    assert payload.encode(Inner(name="\\u0000"), "Inner", 1000) == '{"name":"\\\\u0000","weights":[]}'
