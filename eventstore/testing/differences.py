"""Differences between values, line by line, for the messages of failed scenarios."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence

from pydantic import BaseModel


def difference(expected: Sequence[object], found: Sequence[object]) -> str:
    """Return both as text, with `-` before what was expected only and `+` before what was found only."""
    before, after = (_lines(values) or ["(nothing)"] for values in (expected, found))
    return "\n".join(line.rstrip("\n") for line in difflib.ndiff(before, after) if not line.startswith("?"))


def _lines(values: Sequence[object]) -> list[str]:
    return [line for value in values for line in _lines_of(value)]


def _lines_of(value: object) -> Iterator[str]:
    match value:
        case BaseModel():
            fields: Mapping[str, object] = {name: getattr(value, name) for name in type(value).model_fields}
            name = type(value).__qualname__
        case Mapping():
            fields, name = value, ""
        case _:
            yield repr(value)
            return
    if not fields:
        yield f"{name}()"
        return
    yield f"{name}("
    for field, content in fields.items():
        yield f"    {field}={content!r},"
    yield ")"
