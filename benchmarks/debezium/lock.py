"""Write the lock files anew: `python -m benchmarks.debezium.lock`, for maintainers who raise a version below."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from jgo.maven import MavenContext

from benchmarks.debezium.locks import CONNECT, CONNECTOR
from eventstore.devserver.lock import KAFKA, LOGGING, write

CONNECT_RUNTIME: Final = f"org.apache.kafka:connect-runtime:{KAFKA.rpartition(':')[2]}"
"""Of the broker's version."""

CONNECTOR_POSTGRES: Final = "io.debezium:debezium-connector-postgres:3.3.2.Final"


def main() -> None:
    """Resolve, download and write both lock files beside this module."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), timeout=60)
        module = "benchmarks.debezium.lock"
        write(CONNECT, CONNECT_RUNTIME, _with_logging(context, _resolved(context, CONNECT_RUNTIME)), module)
        write(CONNECTOR, CONNECTOR_POSTGRES, _resolved(context, CONNECTOR_POSTGRES), module)


def _resolved(context: Any, coordinates: str) -> list[Any]:
    inputs, transitive = context.resolver.resolve([context.create_dependency(coordinates)])
    artifacts = [dependency.artifact for dependency in (*inputs, *transitive)]
    group, _, version = coordinates.split(":")
    for artifact in artifacts:
        if artifact.groupId == group and artifact.version != version:
            sys.exit(f"{artifact} was resolved, not {version}")
    return artifacts


def _with_logging(context: Any, artifacts: list[Any]) -> list[Any]:
    """Add the backend without which nothing would be logged, for the reason that the broker's lock has."""
    group, backend, api = LOGGING
    versions = [artifact.version for artifact in artifacts if artifact.artifactId == api]
    return [*artifacts, context.project(group, backend).at_version(*versions).artifact()]


if __name__ == "__main__":
    main()
