"""Models and values by chance: whatever types prove, the round trip proves too."""

from __future__ import annotations

import math
import os
import random
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Annotated, Any, Optional
from uuid import UUID

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    create_model,
)

from eventstore.codec import plain
from eventstore.codec.sameness import same
from fixtures.plain_models import Shade, Text, is_taken

SCALARS: list[Any] = [str, int, float, bool, UUID, date, datetime, None]
ODD: list[Any] = [bytes, Any, Shade, int | str, timedelta]
VALUES: list[Any] = [
    *("", "x", "\\u0000", "\x00", "é\u2028", '"', "\ud800", "NaN", Text("x"), Shade.RED, b"x", None, True, False),
    *(0, 1, -1, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 10**4000, 10**4299, 10**4300),
    *(0.0, -0.0, 1.0, 1e22, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 2.0**53, math.nan, math.inf),
    *(UUID(int=0), UUID(int=2**128 - 1), date.min, date.max, date(2024, 2, 29), timedelta(1)),
    *(datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), datetime(2024, 1, 1, fold=1, tzinfo=UTC)),
    *(datetime(1, 1, 1), datetime(2024, 1, 1, tzinfo=timezone(timedelta(seconds=30)))),  # noqa: DTZ001 - naive
]


class Chance:
    """Models and events by chance."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def kind(self, depth: int = 0) -> Any:  # noqa: PLR0911 - one for each kind
        pick = self._chance
        match pick.randrange(12):
            case 0 if depth < 3:
                return list[self.kind(depth + 1)]  # type: ignore[misc]
            case 1 if depth < 3:
                return dict[str, self.kind(depth + 1)]  # type: ignore[misc]
            case 2 if depth < 3:
                return Optional[self.kind(depth + 1)]  # noqa: UP045 - None may be the kind itself
            case 3 if depth < 3:
                return self.model(depth + 1)
            case 4:
                return Annotated[pick.choice([int, float]), Field(ge=pick.choice([-1, 0]), lt=2**70)]
            case 5:
                return Annotated[str, Field(min_length=1)]
            case 6 if pick.random() < 0.2:
                return pick.choice(ODD)
            case _:
                return pick.choice(SCALARS)

    def model(self, depth: int = 0) -> type[BaseModel]:
        fields = {name: (self.kind(depth), ...) for name in "abc"[: self._chance.randint(1, 3)]}
        return create_model("Model", __config__=ConfigDict(strict=self._chance.random() < 0.2), **fields)  # type: ignore[call-overload, no-any-return]

    def value(self, kind: Any, depth: int = 0) -> Any:
        """A value that mostly suits a kind; nothing validates it."""
        pick = self._chance
        if pick.random() < 0.03:
            return pick.choice([*VALUES, [], {}, [1], {"a": 1}, {1: 1}])
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return self.event(kind, depth + 1)
        arguments: Any = getattr(kind, "__args__", ())
        match getattr(kind, "__origin__", None):
            case origin if origin is list:
                return [self.value(arguments[0], depth + 1) for _ in range(pick.randrange(3))]
            case origin if origin is dict:
                names = [name for name in VALUES if isinstance(name, str)]
                return {pick.choice(names): self.value(arguments[1], depth + 1) for _ in range(pick.randrange(3))}
        if arguments:
            return self.value(pick.choice(arguments), depth + 1)
        return pick.choice([value for value in VALUES if type(value) is kind] or VALUES)

    def event(self, model: type[BaseModel], depth: int = 0) -> BaseModel:
        values = {name: self.value(field.annotation, depth) for name, field in model.model_fields.items()}
        return model.model_construct(**values)


def seeded() -> random.Random:
    seed = int(os.environ.get("EVENTSTORE_SEED", random.randrange(2**32)))
    print(f"EVENTSTORE_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


def proven_of(chance: random.Random, models: int, events: int) -> int:
    """Hold events of so many models against the round trip; returns how many of them types proved."""
    proven = 0
    draw = Chance(chance)
    for _ in range(models):
        model = draw.model()
        for _ in range(events):
            event = draw.event(model)
            if is_taken(event):
                proven += 1
                back = model.model_validate_json(event.model_dump_json(by_alias=True, round_trip=True, warnings=False))
                assert same(event, back), f"{event!r} came back as {back!r}"
    return proven


def test_what_types_prove_the_round_trip_proves(pytestconfig: pytest.Config) -> None:
    models = 20_000 if pytestconfig.getoption("campaign") else 300

    assert proven_of(seeded(), models, 50) > models  # a test in which nothing is proven proves nothing


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("_VALUES", dict(plain._VALUES) | {"datetime": {datetime: None}}),
        ("_VALUES", dict(plain._VALUES) | {"bool": {bool: None, int: None}}),
        ("_VALUES", dict(plain._VALUES) | {"uuid": {UUID: None, str: None}}),
        ("_bounds", lambda _: None),
        ("_both", lambda _, other: other),
        ("_are_names", lambda _: True),
        ("MAX_BYTES", 10_000),
    ],
    ids=["any zone", "an int for a bool", "a str for a UUID", "no bounds", "infinities", "any name", "any length"],
)
def test_a_proof_that_looks_away_is_caught(monkeypatch: pytest.MonkeyPatch, name: str, wrong: object) -> None:
    monkeypatch.setattr(plain, name, wrong)
    plain._check_of.cache_clear()
    with pytest.raises((AssertionError, ValueError)):
        proven_of(seeded(), 3000, 50)
    plain._check_of.cache_clear()
