"""What a reader asked for with `of=`: which models, and whether unknown types come raw."""

from __future__ import annotations

import types
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin

from pydantic import BaseModel

from eventstore.errors import InvalidArgumentError
from eventstore.events import RawEvent

if TYPE_CHECKING:
    from eventstore.codec.registry import EventTypes


@dataclass(frozen=True, slots=True)
class Selection:
    """The events a reader wants.

    Attributes:
        models: The models asked for; None for all of them.
        raw: Whether what is not among the models comes as `RawEvent`; with no models, everything does.
    """

    models: frozenset[type[BaseModel]] | None
    raw: bool

    @staticmethod
    def of(form: Any) -> Selection:
        """Read what was given as `of=`: None, a model, `RawEvent`, or a union of these.

        Raises:
            InvalidArgumentError: It is something else.
        """
        if form is None:
            return EVERYTHING
        if isinstance(form, BaseModel):
            raise InvalidArgumentError(f"of= takes models, not an event: pass {type(form).__qualname__}")
        try:
            hash(form)
        except TypeError:
            raise InvalidArgumentError(
                f"of= takes one model or a union of some, not a {type(form).__qualname__}: write A | B"
            ) from None
        return _selection(form)

    def stored_names(self, types: EventTypes) -> list[str] | None:
        """Return the stored names that can become one of the models, for the query's filter; None is no filter."""
        if self.models is None or self.raw:
            return None
        return sorted({types.of_model(model).name for model in self.models} | types.upcast_names())

    def wants(self, model: type[BaseModel]) -> bool:
        """Whether events of this model were asked for."""
        return self.models is None or model in self.models


EVERYTHING = Selection(None, raw=False)


@lru_cache(maxsize=1024)
def _selection(form: Any) -> Selection:
    members = _members(form, RawEvent)
    models = frozenset(member for member in members if issubclass(member, BaseModel))
    return Selection(models, raw=len(models) < len(members))


def models_of(form: Any) -> tuple[type[BaseModel], ...]:
    """Return the models of a type form: one model, or a union of some.

    Raises:
        InvalidArgumentError: A member is not a pydantic model.
    """
    return _members(form)


def _members(form: Any, *others: type) -> tuple[type[Any], ...]:
    if hasattr(form, "__value__"):  # a `type` alias
        form = form.__value__
    members = get_args(form) if get_origin(form) in {Union, types.UnionType} else (form,)
    for member in members:
        if not (isinstance(member, type) and (issubclass(member, BaseModel) or member in others)):
            shown = repr(member) if isinstance(member, type) else f"a {type(member).__qualname__}"  # it may hold events
            raise InvalidArgumentError(f"{shown} is not an event model: pass a registered model or a union of them")
    return tuple(members)
