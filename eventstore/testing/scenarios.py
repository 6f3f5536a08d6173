"""Scenarios: what an aggregate decides, given its past; no store, no loop, no clock.

given(Order, OrderPlaced(sku="tea", quantity=1)).when(lambda o: o.ship("dhl")).then(OrderShipped(carrier="dhl"))
given(Order).when(lambda o: o.ship("dhl")).raises(NotPlaced)
given(order_decider, OrderPlaced(...)).when(PlaceOrder(...)).then()  # nothing happens
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from pydantic import BaseModel

from eventstore.aggregates import Aggregate, Decider
from eventstore.errors import InvalidArgumentError
from eventstore.events import NewEvent
from eventstore.testing.differences import difference

if TYPE_CHECKING:
    from eventstore.aggregates import Shape

A = TypeVar("A", bound=Aggregate[Any, Any])
C = TypeVar("C")
S = TypeVar("S")
E = TypeVar("E", bound=BaseModel)
X = TypeVar("X", bound=BaseException)


@overload
def given(subject: type[A], *history: BaseModel, key: str = ...) -> AggregateScenario[A]: ...


@overload
def given(subject: Decider[C, S, E], *history: E) -> DeciderScenario[C, S, E]: ...


def given(subject: Any, *history: BaseModel, key: str = "1") -> Any:
    """Begin a scenario: an aggregate class or a decider, and what has happened so far.

    Args:
        subject: The aggregate class or the decider.
        history: Its events so far, in order; none for a new one.
        key: Which aggregate; decisions seldom depend on it.

    Raises:
        InvalidArgumentError: An event is not one that the subject declares.
    """
    _folded(subject.shape, history)  # what is wrong with the past is said here
    if isinstance(subject, Decider):
        return DeciderScenario(subject, history)
    return AggregateScenario(subject, history, key)


class AggregateScenario(Generic[A]):
    """An aggregate with a past."""

    def __init__(self, kind: type[A], history: Sequence[BaseModel], key: str) -> None:
        self._kind = kind
        self._history = history
        self._key = key

    def when(self, command: Callable[[A], object]) -> Outcome[Any]:
        """Run a command on it, as `Repository.execute` takes it."""
        aggregate = self._kind(self._key, _folded(self._kind.shape, self._history), len(self._history))
        raised = _raised_by(lambda: command(aggregate))
        return Outcome([event.data for event in aggregate.pending], aggregate.state, raised)


class DeciderScenario(Generic[C, S, E]):
    """A decider whose state has a past."""

    def __init__(self, decider: Decider[C, S, E], history: Sequence[E]) -> None:
        self._decider = decider
        self._history = history

    def when(self, command: C) -> Outcome[S]:
        """Let it decide on a command."""
        state, decided = _folded(self._decider.shape, self._history), list[Any]()
        raised = _raised_by(lambda: decided.extend(self._decider.decide(command, state)))
        events = [event.data if isinstance(event, NewEvent) else event for event in decided]
        return Outcome(events, _folded(self._decider.shape, [*self._history, *events]), raised)


class Outcome(Generic[S]):
    """What a command led to, to be held against what it should.

    Attributes:
        events: The events that it decided.
        state: The state after them.
        error: What it raised, if it did.
    """

    def __init__(self, events: Sequence[BaseModel], state: S, error: Exception | None) -> None:
        self.events = tuple(events)
        self.state = state
        self.error = error

    def then(self, *expected: BaseModel) -> Outcome[S]:
        """Expect exactly these events, in this order; none means that nothing happens.

        Raises:
            AssertionError: It is not so; the message shows the difference.
        """
        __tracebackhide__ = True
        self._require_success()
        if self.events != expected:
            raise AssertionError(f"other events than expected:\n{difference(expected, self.events)}")
        return self

    def then_state(self, expected: S | None = None, /, **fields: object) -> Outcome[S]:
        """Expect this state after the command, or just these fields of it.

        Raises:
            AssertionError: It is not so; the message shows the difference.
        """
        __tracebackhide__ = True
        self._require_success()
        if expected is None and not fields:
            raise InvalidArgumentError("then_state() expects nothing: pass a state, or fields with their values")
        if expected is not None and self.state != expected:
            raise AssertionError(f"another state than expected:\n{difference([expected], [self.state])}")
        found = {name: getattr(self.state, name) for name in fields}
        if found != fields:
            raise AssertionError(f"another state than expected:\n{difference([fields], [found])}")
        return self

    def raises(self, expected: type[X], *, match: str = "") -> X:
        """Expect the command to be refused with this error, and return it.

        Args:
            expected: The error's class, or one above it.
            match: What its message must hold.

        Raises:
            AssertionError: It was not; the message says what happened instead.
        """
        __tracebackhide__ = True
        if self.error is None:
            raise AssertionError(f"{expected.__qualname__} was not raised; instead:\n{difference((), self.events)}")
        if not isinstance(self.error, expected):
            raise AssertionError(f"{self.error!r} was raised instead of {expected.__qualname__}") from self.error  # noqa: TRY004 - a test failed
        if match not in str(self.error):
            raise AssertionError(f"{match!r} is not in the message of {self.error!r}") from self.error
        return self.error

    def _require_success(self) -> None:
        __tracebackhide__ = True
        if self.error is not None:
            raise AssertionError(f"the command was refused: {self.error!r}") from self.error


def _folded(shape: Shape[S], events: Sequence[BaseModel]) -> S:
    folded = shape.initial()
    for event in events:
        if type(event) not in shape.models:
            raise InvalidArgumentError(
                f"{type(event).__qualname__} is not an event of {shape.category!r}: add it to the event union"
            )
        folded = shape.evolve(folded, event)
    return folded


def _raised_by(command: Callable[[], object]) -> Exception | None:
    try:
        outcome = command()
    except Exception as error:  # noqa: BLE001 - whatever the rules raise is the outcome
        return error
    if inspect.iscoroutine(outcome):
        outcome.close()
        raise InvalidArgumentError("scenarios run synchronous commands: test this one with the `eventstore` fixture")
    return None
