"""From JSON to a model: a name that it has not is refused, wherever it stands, because its value would be lost."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from eventstore.bulk.models import model_from
from eventstore.errors import InvalidArgumentError


class Aliased(BaseModel):
    sku: str = "tea"
    quantity: int = Field(1, alias="amount")


class Camels(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel)

    gift_note: str | None = None


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)

    quantity: int = Field(1, alias="amount")


class Both(BaseModel):
    model_config = ConfigDict(validate_by_name=True)

    quantity: int = Field(1, alias="amount")


class Choices(BaseModel):
    quantity: int = Field(1, validation_alias=AliasChoices("amount", "pieces"))


class Inside(BaseModel):
    item: Aliased | None = None
    items: list[Aliased] = []


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")


class Beside(BaseModel):
    item: Open


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (Aliased, {"quantity": 5}, "no field 'quantity'; it has amount, sku"),
        (Camels, {"gift_note": "for Ann"}, "no field 'gift_note'; it has giftNote"),
        (ByName, {"amount": 5}, "no field 'amount'; it has quantity"),
        (Choices, {"amount": 5, "pieces": 6}, "extra_forbidden"),
        (Both, {"amount": 5, "quantity": 6}, "extra_forbidden"),
        (Inside, {"item": {"colour": "hunter2"}}, r"item\.\*: extra_forbidden"),
        (Inside, {"items": [{}, {"colour": "hunter2"}]}, r"items\.1\.\*: extra_forbidden"),
        (Aliased, {1: 2, "b": 3}, "no field 'b', 1"),
    ],
)
def test_a_name_that_would_be_passed_over_is_refused(model: type[BaseModel], data: Any, said: str) -> None:
    with pytest.raises(InvalidArgumentError, match=said) as raised:
        model_from(model, data)

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize(
    ("model", "data", "read"),
    [
        (Aliased, {"amount": 5}, {"sku": "tea", "quantity": 5}),
        (Camels, {"giftNote": "for Ann"}, {"gift_note": "for Ann"}),
        (ByName, {"quantity": 5}, {"quantity": 5}),
        (Both, {"quantity": 5}, {"quantity": 5}),
        (Both, {"amount": 5}, {"quantity": 5}),
        (Choices, {"pieces": 5}, {"quantity": 5}),
        (Open, {"colour": "red"}, {"colour": "red"}),
        (Beside, {"item": {"colour": "red"}}, {"item": {"colour": "red"}}),
    ],
)
def test_a_name_that_the_model_takes_is_taken(model: type[BaseModel], data: dict[str, Any], read: Any) -> None:
    assert model_from(model, data).model_dump() == read
