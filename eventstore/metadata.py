"""Metadata: who caused an event and what it belongs to, carried along without passing it by hand.

One context variable holds the metadata that applies to everything appended "here". It is set only by `with
metadata(...)`, by the web middleware, and by the framework around each handler call; never by an async generator,
where it would stay behind after a `break`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final

from eventstore.errors import InvalidArgumentError

MAX_ID_LENGTH: Final = 255
"""The longest correlation, causation or command id and actor name, in characters."""

_SURROGATE: Final = re.compile("[\ud800-\udfff]")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _nothing() -> Mapping[str, Any]:
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is recorded about an event beside its data.

    Attributes:
        correlation_id: Names the whole conversation; inherited by everything that follows from it.
        causation_id: The id of the event or message that directly caused this one.
        command_id: The id of the command that decided this event; it makes a retried command safe.
        actor: Who asked for it.
        extra: Anything else, JSON values under names of the caller's choice (names that begin with `$` are reserved).
    """

    correlation_id: str | None = None
    causation_id: str | None = None
    command_id: str | None = None
    actor: str | None = None
    extra: Mapping[str, Any] = field(default_factory=_nothing, repr=False)

    def __post_init__(self) -> None:
        for name in ("correlation_id", "causation_id", "command_id", "actor"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, str) or not 0 < len(value) <= MAX_ID_LENGTH):
                raise InvalidArgumentError(f"{name} must be a string of 1 to {MAX_ID_LENGTH} characters")
            if value is not None and ("\x00" in value or _SURROGATE.search(value)):
                raise InvalidArgumentError(f"{name} must hold neither a NUL character nor a lone surrogate")
        if type(self.extra) is not dict and not isinstance(self.extra, Mapping):
            raise InvalidArgumentError(f"extra is a mapping of names to values, not {type(self.extra).__qualname__}")
        for name in self.extra:
            if not isinstance(name, str) or name.startswith("$"):
                raise InvalidArgumentError(
                    f"metadata name {name!r} is not allowed: use a string that does not begin with '$'"
                )

    def over(self, outer: Metadata) -> Metadata:
        """Return this metadata with what it leaves open taken from `outer`."""
        if outer is NO_METADATA or outer is self:
            return self
        return Metadata(
            correlation_id=self.correlation_id or outer.correlation_id,
            causation_id=self.causation_id or outer.causation_id,
            command_id=self.command_id or outer.command_id,
            actor=self.actor or outer.actor,
            extra={**outer.extra, **self.extra} if outer.extra else self.extra,
        )


NO_METADATA: Final = Metadata()

_current: ContextVar[Metadata] = ContextVar("eventstore_metadata", default=NO_METADATA)


def current_metadata() -> Metadata:
    """Return the metadata that applies here."""
    return _current.get()


@contextmanager
def metadata(
    *,
    correlation_id: str | None = None,
    causation_id: str | None = None,
    command_id: str | None = None,
    actor: str | None = None,
    **extra: Any,
) -> Iterator[Metadata]:
    """Apply metadata to everything appended inside the block; inner blocks add to outer ones and win over them.

    Example:
        with metadata(correlation_id=request_id, actor="alice"):
            await store.append(...)

    Raises:
        InvalidArgumentError: A value is empty, too long or not a string, or a name begins with `$`.
    """
    inner = Metadata(correlation_id, causation_id, command_id, actor, extra)
    with _applied(inner.over(_current.get())) as applied:
        yield applied


@contextmanager
def caused_by(event_id: str, event_metadata: Metadata) -> Iterator[Metadata]:
    """Apply the metadata of what follows from an event: it is the cause, and its correlation is inherited."""
    outer = _current.get()
    following = replace(
        outer,
        correlation_id=event_metadata.correlation_id or event_id,
        causation_id=event_id,
        actor=event_metadata.actor or outer.actor,
    )
    with _applied(following) as applied:
        yield applied


@contextmanager
def _applied(value: Metadata) -> Iterator[Metadata]:
    token = _current.set(value)
    try:
        yield value
    finally:
        _current.reset(token)
