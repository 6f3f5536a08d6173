"""The lock files that lie beside this module."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from eventstore.devserver.maven import read_lock

CONNECT: Final = Path(__file__).with_name("connect-jars.lock")
CONNECTOR: Final = Path(__file__).with_name("connector-jars.lock")


def connect_version() -> str:
    """Return the version of Kafka Connect, as locked."""
    return _version(CONNECT, "connect-runtime")


def connector_version() -> str:
    """Return the version of Debezium, as locked."""
    return _version(CONNECTOR, "debezium-connector-postgres")


def _version(lock: Path, name: str) -> str:
    return next(artifact.version for artifact in read_lock(lock) if artifact.name == name)
