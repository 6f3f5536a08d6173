"""Settings from outside: environment variables and `[tool.eventstore]` of pyproject.toml, for the CLI and workers."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    Attributes:
        app: The application, as `module:object`; EVENTSTORE_APP.
        dsn: The database's address; EVENTSTORE_DSN, never from a file, and never shown.
        schema: The PostgreSQL schema of the store; EVENTSTORE_SCHEMA.
        kafka: The brokers, `host:port,…`; EVENTSTORE_KAFKA.
        pgbouncer: Whether PgBouncer in transaction mode is in between; EVENTSTORE_PGBOUNCER.
    """

    app: str | None = None
    dsn: str | None = field(default=None, repr=False)
    schema: str = "eventstore"
    kafka: str | None = None
    pgbouncer: bool = False


def load_settings(environment: Mapping[str, str] = os.environ, directory: Path | None = None) -> Settings:
    """Read the settings: the environment wins over pyproject.toml, which is looked for in the directory and above it.

    Raises:
        ConfigurationError: pyproject.toml cannot be read, or has an unknown setting.
    """
    table = _pyproject_table(directory or Path.cwd())
    return Settings(
        app=environment.get("EVENTSTORE_APP") or table.get("app"),
        dsn=environment.get("EVENTSTORE_DSN"),
        schema=environment.get("EVENTSTORE_SCHEMA") or table.get("schema", "eventstore"),
        kafka=_address(environment.get("EVENTSTORE_KAFKA")) or table.get("kafka"),
        pgbouncer=_flag(environment.get("EVENTSTORE_PGBOUNCER")) or bool(table.get("pgbouncer", False)),
    )


def _address(text: str | None) -> str | None:
    """Return the setting if it is an address: `embedded`, `docker` and `none` are for `eventstore dev` and the demo."""
    return text if text and text not in {"embedded", "docker", "none"} else None


def _flag(text: str | None) -> bool:
    return text is not None and text.lower() in {"1", "true", "yes", "on"}


def _pyproject_table(directory: Path) -> dict[str, Any]:
    for folder in (directory, *directory.parents):
        file = folder / "pyproject.toml"
        if not file.is_file():
            continue
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigurationError(f"{file} cannot be read: {error}") from None
        table: dict[str, Any] = content.get("tool", {}).get("eventstore", {})
        unknown = set(table) - {"app", "schema", "kafka", "pgbouncer"}
        if unknown:
            raise ConfigurationError(f"{file}: [tool.eventstore] has no setting {', '.join(sorted(unknown))}")
        return table
    return {}
