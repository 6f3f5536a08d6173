"""What a store needs of the sessions that it works on, whoever made them; asked once, when it is opened."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from eventstore.db.errors import translated
from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncpg

    from eventstore.db.queries import Queries

_SAMPLES: Final = {
    "uuid": UUID(int=1),
    "timestamptz": datetime(2024, 2, 29, 12, 30, 15, 7, tzinfo=UTC),
    "interval": timedelta(seconds=1),
    "text": "é",
    "bigint": 2**40,
    "integer": 2**20,
    "float8": 0.5,
    "boolean": True,
    "bytea": b"\x00\xff",
}
"""A value of each type that our queries take or return, in the order of the query `session_facts`."""


async def default_isolation(connection: asyncpg.Connection, queries: Queries) -> str:
    """Return the isolation of the session's transactions, once it is clear that the store can work on it.

    Raises:
        ConfigurationError: The database's encoding is not UTF8, or the connection has codecs that the store cannot use.
    """
    try:
        with translated(queries.schema):
            row: Any = await connection.fetchrow(queries["session_facts"], *_SAMPLES.values())
    except (TypeError, ValueError, AttributeError):  # what a codec raises itself, or what the driver makes of it
        raise _foreign_codecs(list(_SAMPLES)) from None
    isolation, encoding, *returned = row
    changed = [
        name
        for (name, sample), value in zip(_SAMPLES.items(), returned, strict=True)
        if not isinstance(value, type(sample)) or value != sample
    ]
    if changed:
        raise _foreign_codecs(changed)
    require_utf8(encoding)
    return str(isolation)


def require_utf8(encoding: str) -> None:
    """Check a database's encoding.

    Raises:
        ConfigurationError: It is another one, which would refuse most of the world's texts, an append at a time.
    """
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database's encoding is {encoding}, which cannot hold every text: make one with CREATE DATABASE ... "
            "TEMPLATE template0 ENCODING 'UTF8'"
        )


def _foreign_codecs(names: list[str]) -> ConfigurationError:
    return ConfigurationError(
        f"the pool's connections have codecs of their own (set_type_codec) for {', '.join(names)}, with which events "
        "would come back as something else: give the store a pool without them (those for json and jsonb do no harm), "
        "or a DSN"
    )
