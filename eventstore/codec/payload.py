"""One event's data as JSON text, refused when it would not come back identical.

The proof is the round trip itself: what was written is read again and compared, some microseconds for a small event.
That catches NaN and infinities (pydantic writes them as null), fields that a serialiser drops, and values that were
assigned without validation, without a list of special cases. Where the model is so plain that the types of its values
prove the same, that is enough, and cheaper: see `plain`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, PydanticUserError, ValidationError
from pydantic_core import PydanticSerializationError

from eventstore.codec.plain import is_proven
from eventstore.codec.registry import unusable
from eventstore.codec.sameness import changed_fields, same
from eventstore.errors import UnstorablePayloadError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from collections.abc import Set as AbstractSet

MAX_PAYLOAD_BYTES: Final = 1024 * 1024
"""The largest payload unless a store is opened with another limit, in bytes of JSON."""

MAX_METADATA_BYTES: Final = 64 * 1024
"""The largest metadata of an event, in bytes of JSON: it says who and why; what happened belongs into the payload."""

MAX_NESTING: Final = 64
"""The deepest nesting of arrays and objects."""

UNDECLARED: Final = "*"
"""What an error shows in the place of a name that no model declares, such as a dictionary's key: that is payload."""

_NO_SCHEMAS: Final = {"default", "metadata", "config", "serialization"}
"""What stands in a schema beside those that it is made of."""

_NUL = b"\\u0000"


def encode(event: BaseModel, event_type: str, max_bytes: int) -> str:
    """Return an event's data as JSON text.

    Raises:
        UnstorablePayloadError: As `encode_bytes` does.
    """
    return encode_bytes(event, event_type, max_bytes).decode()


def encode_bytes(event: BaseModel, event_type: str, max_bytes: int) -> bytes:
    """Return an event's data as JSON, in UTF-8.

    Raises:
        UnstorablePayloadError: The value holds NUL, a lone surrogate, NaN or an infinity, is nested too deeply, is too
            large, or does not come back from its JSON as it is.
        ConfigurationError: Its model is not complete.
    """
    model = type(event)
    try:
        payload = _written(event)
    except PydanticUserError as error:
        raise unusable(model, error) from None
    except (PydanticSerializationError, RecursionError) as error:
        problem = "it holds a lone surrogate, which is no character" if "surrogate" in str(error) else _SERIALISER
        raise UnstorablePayloadError(event_type, problem) from None
    if len(payload) > max_bytes:
        raise _too_large(len(payload), event_type, max_bytes)
    if _NUL in payload and holds_nul(_shape(payload)):
        raise UnstorablePayloadError(event_type, "it holds a NUL character, which PostgreSQL cannot store in text")
    if is_proven(event, len(payload)):
        return payload
    if (b"NaN" in payload or b"Infinity" in payload) and _holds_constants(payload):
        raise UnstorablePayloadError(event_type, "it holds NaN or an infinity, which are no JSON")
    if payload.count(b"[") + payload.count(b"{") > MAX_NESTING and depth(_shape(payload)) > MAX_NESTING:
        raise UnstorablePayloadError(event_type, f"it is nested deeper than {MAX_NESTING} levels")
    _prove_round_trip(event, model, payload, event_type)
    return payload


def as_json(event: BaseModel) -> Any:
    """Return an event's data as a JSON value, unchecked; whatever its serialisers raise comes out."""
    return json.loads(_written(event))


def _written(event: BaseModel) -> bytes:
    # No warnings: they quote values, and the round trip notices more than they do.
    return type(event).__pydantic_serializer__.to_json(event, by_alias=True, round_trip=True, warnings=False)


def encode_json(data: Mapping[str, Any], event_type: str, max_bytes: int) -> str:
    """Return data that no model stands for, such as that of an older schema version, as JSON text.

    Raises:
        UnstorablePayloadError: As `encode` does.
    """
    text = _dumped(data, event_type)
    if (size := len(_utf8(text, event_type))) > max_bytes:
        raise _too_large(size, event_type, max_bytes)
    back = json.loads(text)
    _require_plain(back, event_type)
    if not same(data, back):
        raise UnstorablePayloadError(event_type, "it would come back changed (a tuple? a name that is none?)")
    return text


def encode_text(text: str, value: Any, event_type: str, max_bytes: int) -> bytes:
    """Return JSON text that is to be stored as it stands, in UTF-8.

    Args:
        text: The text.
        value: What it says, as `json.loads` reads it.
        event_type: The event's type, which errors name.
        max_bytes: How much there may be.

    Raises:
        UnstorablePayloadError: As `encode` does.
    """
    payload = _utf8(text, event_type)
    if len(payload) > max_bytes:
        raise _too_large(len(payload), event_type, max_bytes)
    # What PostgreSQL cannot hold can only be there as an escape; and what is deep has many brackets.
    if "\\u" in text or text.count("[") + text.count("{") > MAX_NESTING:
        _utf8(_dumped(value, event_type), event_type)
        _require_plain(value, event_type)
    return payload


def _dumped(data: Any, event_type: str) -> str:
    try:
        return json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise UnstorablePayloadError(event_type, _NO_PLAIN_JSON) from None


def _utf8(text: str, event_type: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise UnstorablePayloadError(event_type, _NO_PLAIN_JSON) from None


def _too_large(size: int, event_type: str, max_bytes: int) -> UnstorablePayloadError:
    return UnstorablePayloadError(event_type, f"it takes {size} bytes, at most {max_bytes} are allowed")


def _require_plain(data: Any, event_type: str) -> None:
    if depth(data) > MAX_NESTING:  # first: the others go down by recursion
        raise UnstorablePayloadError(event_type, f"it is nested deeper than {MAX_NESTING} levels")
    if holds_nul(data):
        raise UnstorablePayloadError(event_type, "it holds a NUL character, which PostgreSQL cannot store in text")


_NO_PLAIN_JSON = "it is no plain JSON (NaN, a surrogate, a type, its depth?)"
_SERIALISER = "its model cannot be written as JSON; check its field types and serialisers"


def _prove_round_trip(event: BaseModel, model: type[BaseModel], payload: bytes, event_type: str) -> None:
    try:
        back = model.__pydantic_validator__.validate_json(payload)
        changed = changed_fields(event, back)
    except ValidationError as error:
        problem = f"it would not validate when it is read: {summary_of(error, model)}"
        raise UnstorablePayloadError(event_type, problem) from None
    except Exception as error:  # noqa: BLE001 - validators and `==` are anybody's code, and their errors hold values
        problem = f"its validators, or comparing its values, raised {type(error).__qualname__}"
        raise UnstorablePayloadError(event_type, problem) from None
    if changed:
        raise UnstorablePayloadError(
            event_type,
            f"it would come back changed in {_shown(changed, model)} (NaN, a type that JSON does not tell apart, a "
            "private attribute, a lossy serialiser?)",
        )


def summary(error: ValidationError) -> str:
    """Return where and how an envelope failed to validate, names included; not its values: those may be payload."""
    return "; ".join(f"{'.'.join(map(str, place)) or 'the event'}: {kind}" for place, kind in _problems(error))


def summary_of(error: ValidationError, model: type[BaseModel]) -> str:
    """Return the same of an event's data, where a name is shown only if a model declares it: others are payload too."""
    declared = _declared(model)
    return "; ".join(f"{_place(place, declared) or 'the event'}: {kind}" for place, kind in _problems(error))


def _problems(error: ValidationError) -> list[tuple[tuple[int | str, ...], str]]:
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [(each["loc"], each["type"]) for each in found[:3]]


def _place(place: tuple[int | str, ...], declared: AbstractSet[str]) -> str:
    return ".".join(str(part) if isinstance(part, int) or part in declared else UNDECLARED for part in place)


def _shown(names: Iterable[str], model: type[BaseModel]) -> str:
    """Return names of what an event holds beside each other; extra ones are payload."""
    known = _declared(model) | model.__private_attributes__.keys()
    return ", ".join(sorted({name if name in known else UNDECLARED for name in names}))


def _declared(model: type[BaseModel]) -> AbstractSet[str]:
    """Return the names that a model, and whatever is nested in it, declares: fields and their aliases."""
    names: set[str] = set()
    for schema in schemas_of(model):
        fields = schema.get("fields")
        names |= fields.keys() if isinstance(fields, dict) else set()
        names |= {schema["name"]} if schema.get("type") == "dataclass-field" else set()
        names |= set(_strings(schema.get("validation_alias")))
    return names


def schemas_of(model: type[BaseModel]) -> Iterable[dict[str, Any]]:
    """Yield what a model is made of, as pydantic describes it."""
    waiting: list[Any] = [model.__pydantic_core_schema__]
    while waiting:
        match waiting.pop():
            case {"type": str()} as schema:
                yield schema
                waiting += [inner for key, inner in schema.items() if key not in _NO_SCHEMAS]
            case dict() as named:  # such as fields, which may have any name
                waiting += named.values()
            case list() | tuple() as several:
                waiting += several


def holds_nul(value: Any) -> bool:
    """Whether a JSON value holds a NUL character anywhere, names included."""
    return any("\x00" in text for text in _strings(value))


def _holds_constants(payload: bytes) -> bool:
    """Whether a model was configured to write NaN or infinities as bare words (`ser_json_inf_nan="constants"`)."""
    found: list[str] = []
    json.loads(payload, parse_int=len, parse_float=len, parse_constant=found.append)
    return bool(found)


def _shape(payload: bytes) -> Any:
    """Return JSON without its numbers' values: Python refuses to read integers of more than 4,300 digits."""
    return json.loads(payload, parse_int=len, parse_float=len)


def _strings(value: Any) -> Iterable[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _strings(item)
        case list():
            for item in value:
                yield from _strings(item)


def depth(value: Any) -> int:
    """Return how deep arrays and objects are nested, level by level: recursion would end where it matters."""
    level, depth = [value], 0
    while True:
        inner = [item for item in level if isinstance(item, dict | list)]
        if not inner:
            return depth
        depth += 1
        level = [child for item in inner for child in (item.values() if isinstance(item, dict) else item)]
