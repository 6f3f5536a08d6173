"""The declaration of a subscription: which events it takes, and what it does with each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eventstore.codec import Selection
from eventstore.errors import ConfigurationError
from eventstore.subscriptions.interest import Interest, Predicate, checked_categories
from eventstore.subscriptions.reader import SUBSCRIPTION_BATCH, subscription_checkpoint
from eventstore.subscriptions.starting import Start, checked_start

if TYPE_CHECKING:
    from pydantic import BaseModel

    from eventstore.codec import Codec
    from eventstore.events import RecordedEvent
    from eventstore.store import EventStore

ATTEMPTS: Final = 5
"""How often a handler is tried with one event."""


@dataclass(frozen=True, slots=True)
class SubscriptionContext:
    """What a handler may use.

    Attributes:
        store: The store. What is appended in a handler is caused by its event.
        attempt: The how-manieth attempt with this event it is, in this process; from 1.
    """

    store: EventStore
    attempt: int = 1


Handler = Callable[["RecordedEvent[Any]", SubscriptionContext], Awaitable[None]]
H = TypeVar("H", bound=Handler)


class Subscription:
    """A named reader of the log, and the handlers that it calls: at least once for each event, in order, one by one.

    The checkpoint moves after the handler, so a crash in between calls it again: let it tolerate that, for example by
    ids that follow from `event.event_id`. Workers run it (`eventstore subscribe`, `Application.workers`).

    Args:
        name: Its name: what its checkpoint is kept under. Another name is another reader, which begins at its start.
        start: Where it begins when it has no checkpoint yet: `BEGINNING`, `END`, a `Position`, `recorded_from(time)`.
        categories: Only streams of these categories.
        where: Only events of which this is true; asked of the decoded event.
        attempts: How often a handler is tried with one event before the subscription stops; what passes by itself (the
            database is away) is not counted.
        batch: How many events to look at in one go.

    Example:
        mailer = Subscription("mailer", start=END)

        @mailer.on(OrderPlaced)
        async def confirm(event: RecordedEvent[OrderPlaced], ctx: SubscriptionContext) -> None:
            await send_mail(event.data.address, idempotency_key=str(event.event_id))

    Raises:
        InvalidArgumentError: The name, the start or the categories are not what they must be.
    """

    def __init__(
        self,
        name: str,
        *,
        start: Start,
        categories: Sequence[str] | None = None,
        where: Predicate | None = None,
        attempts: int = ATTEMPTS,
        batch: int = SUBSCRIPTION_BATCH,
    ) -> None:
        self.checkpoint_name = subscription_checkpoint(name)
        self.name = name
        self.start = checked_start(start)
        self.attempts = attempts
        self.batch = batch
        self._categories = checked_categories(categories)
        self._where = where
        self._handlers: dict[type[BaseModel], Handler] = {}

    def on(self, *models: type[BaseModel]) -> Callable[[H], H]:
        """Register the handler of some event models.

        Raises:
            ConfigurationError: One of them has a handler already, or none is named.
        """
        if not models or not all(isinstance(model, type) for model in models):
            raise ConfigurationError(f"subscription {self.name!r}: name the events, as in @{self.name}.on(OrderPlaced)")

        def add(handler: H) -> H:
            for model in models:
                if model in self._handlers:
                    raise ConfigurationError(f"subscription {self.name!r} has two handlers for {model.__qualname__}")
                self._handlers[model] = handler
            return handler

        return add

    @property
    def models(self) -> frozenset[type[BaseModel]]:
        """The models it has handlers for."""
        return frozenset(self._handlers)

    def handler(self, model: type[BaseModel]) -> Handler:
        """Return the handler of a model."""
        return self._handlers[model]

    def interest(self, codec: Codec) -> Interest:
        """Return which events it wants."""
        selection = Selection(self.models, raw=False)
        names = selection.stored_names(codec.types)
        return Interest(codec, selection, stored_names=names, categories=self._categories, where=self._where)

    def __repr__(self) -> str:
        return f"Subscription({self.name!r})"
