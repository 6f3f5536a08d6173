"""The class style: an aggregate whose methods check its state and emit events."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel

from eventstore.aggregates.folding import Shape
from eventstore.aggregates.repository import Repository
from eventstore.codec.selection import models_of
from eventstore.errors import ConfigurationError, InvalidArgumentError
from eventstore.events import BEGINNING, NewEvent, Position

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Self

    from eventstore.metadata import Metadata
    from eventstore.store import Operations

S = TypeVar("S")
E = TypeVar("E", bound=BaseModel)
H = TypeVar("H", bound=Callable[..., Any])

_HANDLED = "__eventstore_handles__"


def handles(*models: type[BaseModel]) -> Callable[[H], H]:
    """Mark a method of an aggregate as the handler of events: it takes the event and returns the state after it.

    Raises:
        ConfigurationError: No event is named.
    """
    if not models or not all(isinstance(model, type) for model in models):
        raise ConfigurationError("@handles needs the events that the method handles: write @handles(OrderPlaced)")

    def mark(method: H) -> H:
        setattr(method, _HANDLED, (*getattr(method, _HANDLED, ()), *models))
        return method

    return mark


class Aggregate(Generic[S, E]):
    """Something with an identity and rules, whose state is what its events fold into.

    Declare the state and the union of the events as type arguments and the category as a class argument; say how an
    event changes the state either with `evolve = staticmethod(function)` or with methods marked by `@handles`. A class
    that does not say how it folds, or says it of an event twice, is refused when it is made (`ConfigurationError`).

    Example:
        class Order(Aggregate[State, OrderPlaced | OrderShipped], category="order"):
            evolve = staticmethod(evolve)

            def ship(self, carrier: str) -> None:
                if self.state.status != "placed":
                    raise NotPlaced(self.key)
                self.emit(OrderShipped(carrier=carrier))

    Class arguments:
        category: The category of its streams.
        initial: Makes the state before the first event; the state type itself when left out.
        snapshot_version: Raise it when a handler's meaning changes, so that older snapshots are not used.

    Attributes:
        key: Which one of its category it is.
        state: The state, with what was emitted so far.
        version: The version that it was loaded at; 0 for a new one.
        position: The place in the log of the event that it was loaded at.
    """

    shape: ClassVar[Shape[Any]]
    evolve: ClassVar[Any]  # a callable type would be taken for a method, and refuse `evolve = staticmethod(function)`

    def __init_subclass__(
        cls, *, category: str | None = None, initial: Callable[[], Any] | None = None, snapshot_version: int = 1
    ) -> None:
        super().__init_subclass__()
        if category is None:
            return  # a base for others
        state_type, events = _type_arguments(cls)
        cls.shape = Shape(
            category=category,
            state_type=state_type,
            initial=initial or state_type,
            evolve=_evolve_of(cls, events),
            events=events,
            snapshot_version=snapshot_version,
        )

    def __init__(self, key: str, state: S, version: int = 0, position: Position = BEGINNING) -> None:
        self.key = key
        self.state = state
        self.version = version
        self.position = position
        self._pending: list[NewEvent] = []
        self._historical = False

    @property
    def stream_id(self) -> str:
        """The aggregate's stream."""
        return self.shape.stream_id(self.key)

    @property
    def pending(self) -> tuple[NewEvent, ...]:
        """The events emitted since it was loaded or saved."""
        return tuple(self._pending)

    def emit(self, event: E, *, occurred_at: datetime | None = None, metadata: Metadata | None = None) -> None:
        """Decide that something has happened: the state changes now, the event is appended when it is saved.

        Args:
            event: The event, of the union that the aggregate declares.
            occurred_at: The business time, aware; the moment of the append when it is left out.
            metadata: What is recorded beside it.

        Raises:
            InvalidArgumentError: The event is not in the declared union.
        """
        if type(event) not in self.shape.models:
            raise InvalidArgumentError(
                f"{type(self).__qualname__} does not declare {type(event).__qualname__}: add it to its event union"
            )
        self.state = self.shape.evolve(self.state, event)
        self._pending.append(NewEvent(event, occurred_at=occurred_at, metadata=metadata))

    def __repr__(self) -> str:
        return f"{type(self).__qualname__}({self.key!r}, version={self.version}, pending={len(self._pending)})"

    @classmethod
    def __repository__(cls, operations: Operations) -> Repository[Self]:
        return Repository(cls, operations)


def _type_arguments(cls: type[Aggregate[Any, Any]]) -> tuple[Any, Any]:
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        if isinstance(origin, type) and issubclass(origin, Aggregate):
            state_type, events = get_args(base)
            if not isinstance(state_type, TypeVar):
                return state_type, events
    raise ConfigurationError(
        f"{cls.__qualname__} does not say its state and events: inherit from Aggregate[State, EventA | EventB]"
    )


def _handlers_of(cls: type[Aggregate[Any, Any]]) -> dict[type[BaseModel], Callable[[Any, Any], Any]]:
    """Return the methods marked with `@handles`, by the event that they handle.

    Raises:
        ConfigurationError: Two of them handle the same event.
    """
    handlers: dict[type[BaseModel], Callable[[Any, Any], Any]] = {}
    for name in dir(cls):
        method = getattr(cls, name, None)
        for model in getattr(method, _HANDLED, ()):
            other = handlers.setdefault(model, method)  # type: ignore[arg-type]  # it is marked, so it is a method
            if other is not method:
                raise ConfigurationError(
                    f"{cls.__qualname__} has two handlers for {model.__qualname__}: {other.__qualname__} and "
                    f"{getattr(method, '__qualname__', name)}; keep one (a method that overrides another has its name)"
                )
    return handlers


def _evolve_of(cls: type[Aggregate[Any, Any]], events: Any) -> Callable[[Any, Any], Any]:
    """Return how the class folds: its `evolve`, or its handlers.

    Raises:
        ConfigurationError: It has neither or both, or a handler of an event that it does not declare.
    """
    handlers = _handlers_of(cls)
    evolve: Callable[[Any, Any], Any] | None = getattr(cls, "evolve", None)
    if (evolve is None) == (not handlers):
        raise ConfigurationError(
            f"{cls.__qualname__} needs one way to fold: either evolve = staticmethod(function), or methods marked "
            "with @handles"
        )
    if evolve is not None:
        return evolve
    for model in handlers.keys() - set(models_of(events)):
        raise ConfigurationError(
            f"{cls.__qualname__} handles {model.__qualname__}, which it does not declare, so it would never be handed "
            f"one: add it to its event union, or remove {handlers[model].__qualname__}"
        )

    def apply_handler(state: Any, event: Any) -> Any:
        handler = handlers.get(type(event))
        if handler is None:
            return state
        aggregate = cls.__new__(cls)
        aggregate.state = state
        return handler(aggregate, event)

    return apply_handler
