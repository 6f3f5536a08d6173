"""From JSON to a model, and nothing lost on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Literal

from pydantic import AliasChoices, AliasPath, BaseModel, PydanticUserError, RootModel, ValidationError

from eventstore.bulk.digits import require_kept
from eventstore.bulk.json_text import JsonText
from eventstore.codec.payload import as_json, schemas_of, summary_of
from eventstore.codec.registry import unusable
from eventstore.errors import InvalidArgumentError

_names: dict[type[BaseModel], frozenset[str] | None] = {}


def model_from(
    model: type[BaseModel], data: Mapping[str, Any] | JsonText, columns: Mapping[str, str] | None = None
) -> BaseModel:
    """Return the event that a JSON object is.

    Args:
        model: What it is an event of.
        data: The object.
        columns: Where its fields come from, which errors name.

    Raises:
        InvalidArgumentError: It does not validate, or has names that the model has not, which pydantic would pass over,
            or numbers whose digits would be lost; of `1.10` a `Decimal` keeps the value, and a string keeps the zero.
        ConfigurationError: The model is not complete.
    """
    fields = data.value if isinstance(data, JsonText) else data
    if not isinstance(fields, Mapping):
        raise InvalidArgumentError("data that says no schema version is an object: the fields of its model")
    known = _known_names(model)
    if known is not None and not known.issuperset(fields):
        unknown = ", ".join(sorted(repr(name) for name in set(fields) - known))
        raise InvalidArgumentError(f"its model has no field {unknown}; it has {', '.join(sorted(known))}")
    try:
        text = data.text if isinstance(data, JsonText) else json.dumps(data, ensure_ascii=False)
        event: BaseModel = model.__pydantic_validator__.validate_json(text, extra=_on_other_names(model))
    except ValidationError as error:
        raise InvalidArgumentError(_problems(error, columns) if columns else summary_of(error, model)) from None
    except PydanticUserError as error:
        raise unusable(model, error) from None
    except Exception as error:  # noqa: BLE001 - validators are anybody's code, and their errors hold values
        kind = type(error).__name__
        raise InvalidArgumentError(f"it is no JSON that can be stored, or its validators fail ({kind})") from None
    if isinstance(data, JsonText) and not data.is_exact:
        require_kept(text, lambda text: [as_json(model.__pydantic_validator__.validate_json(text))])
    return event


def _problems(error: ValidationError, columns: Mapping[str, str]) -> str:
    """Return where validation failed in the words of the source, and how; without the values."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    return "; ".join(f"{_column(problem['loc'], columns)}: {problem['type']}" for problem in problems[:3])


def _column(place: tuple[int | str, ...], columns: Mapping[str, str]) -> str:
    field = str(place[0]) if place else "the event"
    return f"column {columns[field]!r} ({field})" if field in columns else field


def _known_names(model: type[BaseModel]) -> frozenset[str] | None:
    """Return the names that a model takes; None when it says itself what becomes of others."""
    if model in _names:
        return _names[model]
    known: set[str] = set()
    config = model.model_config
    by_name = config.get("validate_by_name") or config.get("populate_by_name")
    for name, field in model.model_fields.items():
        alias = field.validation_alias
        if alias is None or by_name:
            known.add(name)
        if alias is not None and config.get("validate_by_alias") is not False:
            choices = alias.choices if isinstance(alias, AliasChoices) else [alias]
            known |= {str(choice.path[0]) if isinstance(choice, AliasPath) else choice for choice in choices}
    says_itself = config.get("extra") is not None or issubclass(model, RootModel)
    _names[model] = None if says_itself else frozenset(known)
    return _names[model]


@lru_cache(1024)
def _on_other_names(model: type[BaseModel]) -> Literal["forbid"] | None:
    """Return what becomes of names that a model nested in this one has not: an error, unless one says itself what."""
    says_itself = any("extra_fields_behavior" in schema.get("config", {}) for schema in schemas_of(model))
    return None if says_itself else "forbid"
