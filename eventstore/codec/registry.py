"""The registry of event types: which name and schema version stands for which model.

Nothing here is global, and nothing is ever imported by a stored name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import BaseModel, PydanticUserError

from eventstore.errors import ConfigurationError, UnknownEventTypeError

M = TypeVar("M", bound=BaseModel)
Data = dict[str, Any]

MAX_NAME_LENGTH: Final = 255

_UNSTORABLE: Final = re.compile("[\x00\ud800-\udfff]")


class Upcast(NamedTuple):
    """One of the events that an upcaster makes out of a stored one.

    Attributes:
        event_type: The registered name of the event it becomes.
        version: The schema version of `data`; further upcasters go on from there.
        data: Its payload as parsed JSON.
    """

    event_type: str
    version: int
    data: Data

    def __repr__(self) -> str:
        return f"Upcast({self.event_type}, version={self.version})"


Upcaster = Callable[[Data], Data | Sequence[Upcast]]


@dataclass(frozen=True, slots=True)
class EventType:
    """A registered event type: the name and schema version that stand for a model."""

    name: str
    version: int
    model: type[BaseModel]

    def describe(self) -> str:
        """Return what the type's stored form depends on, as text: the input of fingerprints.

        Raises:
            ConfigurationError: The model is not complete.
        """
        try:
            schema = self.model.model_json_schema()
        except PydanticUserError as error:
            raise unusable(self.model, error) from None
        return json.dumps([self.name, self.version, schema], sort_keys=True)

    @property
    def validate_json(self) -> Callable[[str], BaseModel]:
        """What reads its data: another one once the model is rebuilt.

        Raises:
            ConfigurationError: The model is not complete.
        """
        try:
            return self.model.__pydantic_validator__.validate_json
        except PydanticUserError as error:
            raise unusable(self.model, error) from None


def unusable(model: type[BaseModel], error: PydanticUserError) -> ConfigurationError:
    """Return the refusal of a model that pydantic cannot use.

    It comes with the first event: when a model is registered, what its fields name may still be to be defined.
    """
    if error.code == "class-not-fully-defined":
        return ConfigurationError(
            f"the model {model.__qualname__} is not complete: define what its fields name before events are read or "
            f"written, and call {model.__qualname__}.model_rebuild() if that is in another place"
        )
    return ConfigurationError(f"pydantic cannot use the model {model.__qualname__} ({error.code}): mend its fields")


class EventTypes:
    """The event types of an application (or of a part of one; see `include`).

    Example:
        events = EventTypes()

        @events.register("OrderPlaced", version=2)
        class OrderPlaced(BaseModel):
            sku: str
            quantity: int

        @events.upcaster("OrderPlaced", from_version=1)
        def _(data):
            return data | {"quantity": 1}
    """

    def __init__(self) -> None:
        self._by_name: dict[str, EventType] = {}
        self._by_model: dict[type[BaseModel], EventType] = {}
        self._upcasters: dict[tuple[str, int], Upcaster] = {}

    def register(self, name: str, *, version: int = 1) -> Callable[[type[M]], type[M]]:
        """Register a pydantic model under a name, which is what the database stores; returns the class unchanged.

        Args:
            name: The stored name; it outlives the class's name and place.
            version: The schema version of the model, from 1; older ones need an upcaster each.

        Raises:
            ConfigurationError: The name or the model is registered already, or is none.
        """
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME_LENGTH or _UNSTORABLE.search(name):
            raise ConfigurationError(f"an event type's name has 1 to {MAX_NAME_LENGTH} characters, not {name!r}")
        if not isinstance(version, int) or version < 1:
            raise ConfigurationError(f"the schema version of {name!r} counts from 1, not {version!r}")

        def add(model: type[M]) -> type[M]:
            if not (isinstance(model, type) and issubclass(model, BaseModel)):
                raise ConfigurationError(f"{name!r} must be registered with a pydantic model, not {model!r}")
            self._add(EventType(name, version, model))
            return model

        return add

    def upcaster(self, name: str, *, from_version: int) -> Callable[[Upcaster], Upcaster]:
        """Register a function that lifts stored data of one schema version to the next.

        It takes the payload as parsed JSON and returns that of the next version, or the events that it becomes now:
        a sequence of `Upcast`, which may be empty.

        Raises:
            ConfigurationError: There is one for this name and version already.
        """

        def add(function: Upcaster) -> Upcaster:
            if (name, from_version) in self._upcasters:
                raise ConfigurationError(f"{name!r} has an upcaster from version {from_version} already")
            self._upcasters[name, from_version] = function
            return function

        return add

    def include(self, other: EventTypes) -> None:
        """Add all types and upcasters of another registry, so that an application is composed of parts.

        Raises:
            ConfigurationError: A name or model is registered in both, differently.
        """
        for event_type in other:
            if self._by_name.get(event_type.name) != event_type:
                self._add(event_type)
        for (name, version), function in other._upcasters.items():
            if self._upcasters.get((name, version)) is not function:
                self.upcaster(name, from_version=version)(function)

    def of_model(self, model: type[BaseModel]) -> EventType:
        """Return the type a model is registered as.

        Raises:
            UnknownEventTypeError: The model is not registered (a subclass of a registered one is not).
        """
        try:
            return self._by_model[model]
        except KeyError:
            raise UnknownEventTypeError(model.__qualname__) from None

    def named(self, name: str) -> EventType | None:
        """Return the type registered under a name."""
        return self._by_name.get(name)

    def upcaster_from(self, name: str, version: int) -> Upcaster | None:
        """Return the upcaster of a stored name and schema version."""
        return self._upcasters.get((name, version))

    def upcast_names(self) -> frozenset[str]:
        """Return the stored names that have upcasters: their older events may become other types when they are read."""
        return frozenset(name for name, _ in self._upcasters)

    def describe(self, models: Sequence[type[BaseModel]]) -> list[str]:
        """Return what reading these models depends on, as text, sorted: their types and all upcasters' coordinates."""
        upcasters = [f"upcaster {name} {version}" for name, version in self._upcasters]
        return sorted([self.of_model(model).describe() for model in models] + upcasters)

    def __iter__(self) -> Iterator[EventType]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, model: object) -> bool:
        return model in self._by_model

    def __repr__(self) -> str:
        return f"EventTypes({', '.join(self._by_name)})"

    def _add(self, event_type: EventType) -> None:
        taken = self._by_name.get(event_type.name)
        if taken is not None:
            raise ConfigurationError(
                f"the event type {event_type.name!r} is registered already, with {taken.model.__qualname__}"
            )
        known = self._by_model.get(event_type.model)
        if known is not None:
            raise ConfigurationError(f"{event_type.model.__qualname__} is registered already, as {known.name!r}")
        self._by_name[event_type.name] = event_type
        self._by_model[event_type.model] = event_type
