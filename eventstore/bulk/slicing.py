"""A source in slices: so few rows that the event loop is not kept from its other work, so many that it costs little."""

from __future__ import annotations

from collections.abc import AsyncIterable
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable

T = TypeVar("T")

SLICE: Final = 128
"""About a millisecond of encoding."""


async def slices(source: Iterable[T] | AsyncIterable[T]) -> AsyncGenerator[list[T], None]:
    """Yield the rows of a source some at a time."""
    if isinstance(source, AsyncIterable):
        some: list[T] = []
        async for row in source:
            some.append(row)
            if len(some) == SLICE:
                yield some
                some = []
        yield some
        return
    rows = iter(source)
    while some := list(islice(rows, SLICE)):
        yield some
