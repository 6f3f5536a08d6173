"""Named queries: each lives in a `.sql` file under a name and a sentence, and is loaded once for a schema."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME = re.compile(r"^-- name: (?P<name>\w+)$", re.MULTILINE)
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_$]*")
_MAX_IDENTIFIER = 63


def quoted(identifier: str) -> str:
    """Return an SQL identifier in quotes.

    Raises:
        ConfigurationError: It is not a plain identifier of at most 63 characters. Quoting could carry more, but no
            name is worth the surprises.
    """
    if not _IDENTIFIER.fullmatch(identifier) or len(identifier) > _MAX_IDENTIFIER:
        raise ConfigurationError(
            f"{identifier!r} cannot name a schema: use letters, digits, '_' and '$', at most {_MAX_IDENTIFIER}"
        )
    if "$$" in identifier or identifier.startswith("pg_") or identifier == "information_schema":
        raise ConfigurationError(
            f"{identifier!r} cannot name a schema: '$$' ends a function's body, and names that begin with 'pg_' and "
            "'information_schema' are PostgreSQL's own"
        )
    return f'"{identifier}"'


class Queries:
    """The framework's queries for the store in one PostgreSQL schema: `queries["append"]`."""

    def __init__(self, schema: str) -> None:
        self.schema = schema
        self._texts = _load(quoted(schema))

    def __getitem__(self, name: str) -> str:
        return self._texts[name]


@lru_cache(maxsize=64)
def _load(quoted_schema: str) -> Mapping[str, str]:
    texts: dict[str, str] = {}
    for file in files("eventstore.db").joinpath("sql").iterdir():
        if not file.name.endswith(".sql"):
            continue
        _, *parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in texts:
                raise RuntimeError(f"two queries are named {name!r}")
            texts[name] = text.strip().replace("{schema}", quoted_schema)
    return texts
