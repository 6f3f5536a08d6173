"""Payloads come back identical, or are refused before anything is sent."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum
from typing import Annotated, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, SecretStr

from eventstore import ANY, Application, EventStore, EventTypes
from eventstore.clock import uuid7
from eventstore.codec import Codec, EncodedEvent, StoredEvent
from eventstore.codec.payload import MAX_NESTING
from eventstore.codec.selection import EVERYTHING
from eventstore.errors import UnreadablePayloadError, UnstorablePayloadError
from eventstore.metadata import NO_METADATA, Metadata
from eventstore.testing import FakeClock
from fixtures.stores import open_store

types = EventTypes()


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    HIGH = 2


class Inner(BaseModel):
    name: str
    numbers: tuple[int, float] | None = None


@types.register("Everything")
class Everything(BaseModel):
    text: str = ""
    integer: int = 0
    number: float = 0.0
    either: int | float | str | None = None
    decimal: Decimal = Decimal(0)
    flag: bool = False
    raw: bytes = b""
    moment: datetime = datetime(2024, 1, 1, tzinfo=UTC)
    day: date = date(2024, 1, 1)
    clock: time = time(0)
    span: timedelta = timedelta()
    identity: UUID = UUID(int=0)
    colour: Colour = Colour.RED
    inner: list[Inner] = []
    table: dict[str, list[float]] = {}
    anything: Any = None


codec = Codec(types, clock=FakeClock(), new_id=uuid7, max_payload=1024 * 1024)

any_text = st.text(st.characters(codec=None, categories=None), max_size=20)
json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | any_text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(any_text, inner, max_size=4),
    max_leaves=12,
)
not_quite_json = json_like | st.tuples(st.integers()) | st.frozensets(st.integers()) | st.datetimes() | st.decimals()
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))

everything = st.builds(
    Everything,
    text=any_text,
    integer=st.integers(),
    number=st.floats(),
    either=st.none() | st.integers() | st.floats() | any_text,
    decimal=st.decimals(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    raw=st.binary(max_size=20),
    moment=st.datetimes(timezones=offsets),
    day=st.dates(),
    clock=st.times(),
    span=st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
    identity=st.uuids(),
    colour=st.sampled_from(Colour),
    inner=st.lists(
        st.builds(Inner, name=any_text, numbers=st.none() | st.tuples(st.integers(), st.floats())), max_size=3
    ),
    table=st.dictionaries(any_text, st.lists(st.floats(), max_size=3), max_size=3),
    anything=not_quite_json,
)


def stored(encoded: EncodedEvent) -> StoredEvent:
    """Return an encoded event as a log gives it back."""
    return StoredEvent(1, "thing-1", 1, *encoded[:-1], recorded_at=encoded.occurred_at)


def decoded(encoded: EncodedEvent) -> Any:
    (event,) = codec.decode(stored(encoded), EVERYTHING)
    return event.data


def identical(left: Any, right: Any) -> bool:
    """Whether two values are the same to the last bit: 1 is not 1.0, and -0.0 is not 0.0."""
    if type(left) is not type(right):
        return False
    match left:
        case float():
            return left == right and math.copysign(1, left) == math.copysign(1, right)
        case BaseModel():
            return identical(left.__dict__, right.__dict__)
        case dict():
            return list(left) == list(right) and all(identical(left[key], right[key]) for key in left)
        case list() | tuple():
            return len(left) == len(right) and all(map(identical, left, right))
        case _:
            return bool(left == right)


@settings(max_examples=400)
@given(event=everything)
@example(event=Everything(number=1e22, anything=[1e22, 10**22, -0.0, 0]))
@example(event=Everything(number=-0.0, either=-0.0))
@example(event=Everything(either=1.0, anything={"b": 1, "a": True, "c": 1.0}))
@example(event=Everything(text="\\u0000", anything={"\\u0000": "NaN", "x": "Infinity"}))
@example(event=Everything(text="\ud800"))
@example(event=Everything(number=math.nan, anything=math.inf))
def test_a_payload_comes_back_identical_or_is_refused(event: Everything) -> None:
    try:
        encoded = codec.encode(event, NO_METADATA)
    except UnstorablePayloadError:
        return
    assert identical(decoded(encoded), event)


plain_text = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=20)
finite = st.floats(allow_nan=False, allow_infinity=False)


@settings(max_examples=200)
@given(
    text=plain_text,
    number=finite,
    integer=st.integers(),
    anything=st.recursive(
        st.none() | st.booleans() | st.integers() | finite | plain_text,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain_text, inner, max_size=4),
        max_leaves=12,
    ),
)
def test_no_plain_value_is_refused(text: str, number: float, integer: int, anything: Any) -> None:
    event = Everything(text=text, number=number, integer=integer, anything=anything)

    assert identical(decoded(codec.encode(event, NO_METADATA)), event)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(event=everything, extra=st.dictionaries(any_text, json_like, max_size=3))
@example(event=Everything(number=1e22, anything=[1e22, 10**22, -0.0, 0, 5e-324]), extra={"a": 1e22, "b": -0.0})
@example(event=Everything(text="\\u0000"), extra={"\\u0000": "\\u0000"})
@example(event=Everything(text="\x7f\u2028\U0001f600"), extra={"\u2028": "\x01"})
async def test_what_is_accepted_comes_back_from_postgresql_identical(
    thing_store: EventStore, event: Everything, extra: dict[str, Any]
) -> None:
    metadata = Metadata(extra={name: value for name, value in extra.items() if not name.startswith("$")})
    stream_id = f"thing-{uuid7()}"
    try:
        await thing_store.append(stream_id, [event], expected_version=ANY, metadata=metadata)
    except UnstorablePayloadError:
        return
    (back,) = await thing_store.read_stream(stream_id).to_list()
    assert identical(back.data, event)
    assert identical(dict(back.metadata.extra), dict(metadata.extra))


@pytest.fixture
async def thing_store(dsn: str) -> Any:
    """A store of the things above on PostgreSQL."""
    async with open_store(dsn, Application("things", events=types)) as store:
        yield store


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


REFUSED: dict[str, Any] = {
    "NUL": Everything(text="a\x00b"),
    "NUL in a name": Everything(table={"\x00": []}),
    "surrogate": Everything(text="\ud800"),
    "NaN": Everything(number=math.nan),
    "infinity": Everything(number=math.inf),
    "minus infinity in a list": Everything(table={"a": [1.0, -math.inf]}),
    "NaN in anything": Everything(anything={"deep": [math.nan]}),
    "nested too deeply": Everything(anything=nested(MAX_NESTING)),
    "nested far too deeply": Everything(anything=nested(5000)),
    "too large": Everything(text="x" * 1024 * 1024),
    "tuple in anything": Everything(anything=(1, 2)),
    "set in anything": Everything(anything={1, 2}),
    "model in anything": Everything(anything=Inner(name="x")),
    "assigned without validation": Everything.model_construct(integer="seven"),
    "object in anything": Everything(anything=object()),
    "bytes that are no text": Everything(raw=b"\xff"),
}


@pytest.mark.parametrize("event", REFUSED.values(), ids=REFUSED)
def test_what_would_not_come_back_is_refused(event: Everything) -> None:
    with pytest.raises(UnstorablePayloadError) as raised:
        codec.encode(event, NO_METADATA)

    assert raised.value.event_type == "Everything"
    assert not raised.value.retryable
    assert raised.value.__cause__ is None
    assert "seven" not in str(raised.value)


def test_the_limits_themselves_are_allowed() -> None:
    deepest = Everything(anything=nested(MAX_NESTING - 1))  # the event itself is one level
    size = len(codec.encode(Everything(), NO_METADATA).data)
    largest = Everything(text="x" * (1024 * 1024 - size))

    assert decoded(codec.encode(deepest, NO_METADATA)) == deepest
    assert decoded(codec.encode(largest, NO_METADATA)) == largest


def test_the_size_is_counted_in_bytes() -> None:
    with pytest.raises(UnstorablePayloadError, match="bytes"):
        codec.encode(Everything(text="é" * (512 * 1024)), NO_METADATA)


# --- models that lose something by their own doing -----------------------------------------------------------------


class WithSecret(BaseModel):
    secret: SecretStr


class WithExcludedField(BaseModel):
    kept: int
    dropped: int = Field(default=0, exclude=True)


class WithLossySerialiser(BaseModel):
    number: Annotated[float, PlainSerializer(round)]


class WithOneWayAlias(BaseModel):
    name: str = Field(serialization_alias="nom")


class WithBareConstants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="constants")

    number: float


class WithNamedConstants(BaseModel):
    model_config = ConfigDict(ser_json_inf_nan="strings")

    number: float


class WithExtras(BaseModel):
    model_config = ConfigDict(extra="allow")


class WithAlias(BaseModel):
    name: str = Field(alias="nom")


LOSSY: dict[str, BaseModel] = {
    "secret": WithSecret(secret=SecretStr("hunter2")),
    "excluded field": WithExcludedField(kept=1, dropped=2),
    "lossy serialiser": WithLossySerialiser(number=1.5),
    "one-way alias": WithOneWayAlias(name="x"),
    "infinity as a bare word": WithBareConstants(number=math.inf),
    "NaN as text": WithNamedConstants(number=math.nan),
    "extra that is no JSON": WithExtras.model_validate({"a": (1, 2)}),
}

LOSSLESS: dict[str, BaseModel] = {
    "excluded field at its default": WithExcludedField(kept=1),
    "lossless value of a lossy serialiser": WithLossySerialiser(number=2.0),
    "infinity as text": WithNamedConstants(number=-math.inf),
    "the word Infinity": WithExtras.model_validate({"text": "Infinity and NaN"}),
    "extras": WithExtras.model_validate({"b": [1, {"c": None}], "a": "x"}),
    "alias both ways": WithAlias(nom="x"),
}


def codec_of(event: BaseModel) -> Codec:
    """Return a codec that knows the model of an event."""
    registry = EventTypes()
    registry.register("Special")(type(event))
    return Codec(registry, clock=FakeClock(), new_id=uuid7, max_payload=1024)


@pytest.mark.parametrize("event", LOSSY.values(), ids=LOSSY)
def test_a_model_that_would_lose_something_is_refused(event: BaseModel) -> None:
    with pytest.raises(UnstorablePayloadError) as raised:
        codec_of(event).encode(event, NO_METADATA)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("event", LOSSLESS.values(), ids=LOSSLESS)
def test_a_model_that_loses_nothing_is_stored(event: BaseModel) -> None:
    special = codec_of(event)

    (back,) = special.decode(stored(special.encode(event, NO_METADATA)), EVERYTHING)

    assert identical(back.data, event)


class Branch(BaseModel):
    number: int = Field(alias="no")


@dataclass
class Leaf:
    colour: int


class Nested(BaseModel):
    """Names that it declares, and names that are payload."""

    model_config = ConfigDict(extra="forbid")

    balances: dict[str, int] = {}
    branches: list[Branch] = []
    by_owner: dict[str, Branch] = {}
    either: int | dict[str, int] = 0
    leaf: Leaf | None = None


@pytest.mark.parametrize(
    ("data", "place"),
    [
        ({"balances": {"hunter2": "x"}}, "balances.*: int_parsing"),
        ({"branches": [{"no": 1}, {"no": "x"}]}, "branches.1.no: int_parsing"),
        ({"by_owner": {"hunter2": {}}}, "by_owner.*.no: missing"),
        ({"either": {"hunter2": "x"}}, "either.*.*: int_parsing"),
        ({"leaf": {}}, "leaf.colour: missing"),
        ({"hunter2": 1}, "*: extra_forbidden"),
    ],
)
def test_an_error_shows_names_that_a_model_declares_and_no_others(data: dict[str, Any], place: str) -> None:
    event = Nested.model_construct(**data)
    special = codec_of(event)
    old = stored(codec.encode(Everything(), NO_METADATA))._replace(event_type="Special", data=json.dumps(data))

    with pytest.raises(UnreadablePayloadError) as unreadable:
        special.decode(old, EVERYTHING)

    assert place in unreadable.value.problem
    assert "hunter2" not in str(unreadable.value)


def test_a_refusal_shows_names_that_a_model_declares_and_no_others() -> None:
    wrong = Nested.model_construct(balances={"hunter2": "x"})
    with pytest.raises(UnstorablePayloadError, match=r"balances\.\*: int_parsing"):
        codec_of(wrong).encode(wrong, NO_METADATA)

    extra = WithExtras.model_validate({"hunter2": (1, 2)})
    with pytest.raises(UnstorablePayloadError, match=r"changed in \* "):
        codec_of(extra).encode(extra, NO_METADATA)


# --- metadata ------------------------------------------------------------------------------------------------------

BAD_EXTRAS: dict[str, Any] = {
    "NaN": math.nan,
    "NUL": "\x00",
    "NUL in a name": {"\x00": 1},
    "surrogate": ["\ud800"],
    "tuple": (1, 2),
    "name that is no text": {1: 2},
    "object": object(),
    "nested far too deeply": nested(5000),
    "nested too deeply": nested(MAX_NESTING),
    "too large": "x" * 1024 * 1024,
    "enum": Level.HIGH,
    "integer of too many digits": 10**5000,
}


@pytest.mark.parametrize("value", BAD_EXTRAS.values(), ids=BAD_EXTRAS)
def test_metadata_that_would_not_come_back_is_refused(value: Any) -> None:
    with pytest.raises(UnstorablePayloadError, match="metadata"):
        codec.encode(Everything(), Metadata(extra={"a": value}))


def test_a_written_out_nul_in_metadata_is_just_text() -> None:
    encoded = codec.encode(Everything(), Metadata(extra={"\\u0000": "\\u0000"}))

    (event,) = codec.decode(stored(encoded), EVERYTHING)

    assert event.metadata.extra == {"\\u0000": "\\u0000"}
