"""What a state looks like, and what an event changed in it: states as flat JSON, path by path."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eventstore.aggregates import Shape

PATH = "."


class Change(NamedTuple):
    """A value of the state before and after an event; `absent` stands for no value."""

    path: str
    before: Any
    after: Any

    def __repr__(self) -> str:
        return f"Change({self.path})"


class _Absent:
    def __repr__(self) -> str:
        return "absent"


ABSENT: Any = _Absent()


def dumped(shape: Shape[Any], state: Any) -> Any:
    """Return a state as the JSON that a snapshot of it holds."""
    return json.loads(shape.dump_state(state))


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values inside nested objects with their paths; lists and empty objects are values."""
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from flat(inner, f"{path}{PATH}{name}" if path else str(name))
    else:
        yield path or "state", value


def changes(before: Any, after: Any) -> list[Change]:
    """Return what differs between two states, in the order of the later one; what is gone comes last."""
    old, new = dict(flat(before)), dict(flat(after))
    changed = [Change(path, old.get(path, ABSENT), value) for path, value in new.items() if _differ(old, path, value)]
    # A value that became an object is no loss: its parts are listed.
    gone = [Change(path, value, ABSENT) for path, value in old.items() if path not in new and not _grew(path, new)]
    return changed + gone


def _differ(old: Mapping[str, Any], path: str, value: Any) -> bool:
    return path not in old or old[path] != value or type(old[path]) is not type(value)


def _grew(path: str, new: Mapping[str, Any]) -> bool:
    return any(other.startswith(f"{path}{PATH}") for other in new)
