"""Write the lock files anew: `python -m eventstore.devserver.lock`, for maintainers who raise a version below.

This is the only place where anything is resolved. What comes out is read by a person before it is committed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from jgo.maven import MavenContext

from eventstore.devserver.locks import KAFKA_LOCK, POSTGRES_15_LOCK
from eventstore.devserver.maven import file_sha256

KAFKA = "org.apache.kafka:kafka_2.13:4.1.2"
# Kafka logs through slf4j 1.7: with no backend at all it would not even say why it does not start. Resolving Kafka
# and a log4j backend together was seen to pick kafka-clients 3.8, so this one joins after the resolution.
LOGGING = ("org.slf4j", "slf4j-simple", "slf4j-api")
POSTGRES_15 = "15.19.0"
POSTGRES_PLATFORMS = ("linux-amd64", "linux-arm64v8")


def main() -> None:
    """Resolve, download and write both lock files beside this module."""
    with tempfile.TemporaryDirectory() as repository:
        context = MavenContext(repo_cache=Path(repository), timeout=60)
        write(KAFKA_LOCK, KAFKA, _kafka(context))
        write(POSTGRES_15_LOCK, f"PostgreSQL {POSTGRES_15}", _postgres(context))


def _kafka(context: Any) -> list[Any]:
    inputs, transitive = context.resolver.resolve([context.create_dependency(KAFKA)])
    artifacts = [dependency.artifact for dependency in (*inputs, *transitive)]
    version = KAFKA.rpartition(":")[2]
    for artifact in artifacts:
        if artifact.groupId == "org.apache.kafka" and artifact.version != version:
            sys.exit(f"{artifact} was resolved, not {version}")
    group, backend, api = LOGGING
    versions = [artifact.version for artifact in artifacts if artifact.artifactId == api]
    return [*artifacts, context.project(group, backend).at_version(*versions).artifact()]


def _postgres(context: Any) -> list[Any]:
    names = [f"embedded-postgres-binaries-{platform}" for platform in POSTGRES_PLATFORMS]
    return [context.project("io.zonky.test.postgres", name).at_version(POSTGRES_15).artifact() for name in names]


def write(lock: Path, what: str, artifacts: list[Any], module: str = "eventstore.devserver.lock") -> None:
    """Download artifacts and write their lock file, which says by which module it was made."""
    lines = [f"# {what}, from Maven Central. Made by `python -m {module}`; do not edit."]
    for artifact in sorted(artifacts, key=str):
        file = artifact.resolve()
        parts = (artifact.groupId, artifact.artifactId, artifact.version, artifact.classifier)
        lines.append(f"{':'.join(part for part in parts if part)} {file_sha256(file)} {file.stat().st_size}")
    lock.write_text("\n".join(lines) + "\n", encoding="utf-8")
    sys.stdout.write(f"{lock.name}: {len(artifacts)} artifacts\n")


if __name__ == "__main__":
    main()
