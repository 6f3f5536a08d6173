"""PostgreSQL and Kafka for as long as a `with` block lasts, from wherever the settings say."""

from __future__ import annotations

import socket
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eventstore.devserver import containers
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.kafka import KafkaServer, start_kafka
from eventstore.devserver.postgres import PostgresServer, start_postgres
from eventstore.devserver.reporting import Progress, SilentProgress
from eventstore.devserver.sources import (
    KAFKA_VARIABLE,
    Absent,
    Address,
    Docker,
    Embedded,
    KafkaSource,
    PostgresSource,
    describe_address,
    kafka_source,
    postgres_source,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONNECT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Provisioned:
    """What there is to work with."""

    postgres_dsn: str = field(repr=False)
    """The address of a database; it may hold a password."""
    kafka_bootstrap: str | None
    """`host:port[,host:port]`, or None when there is no Kafka."""
    kafka_unavailable_reason: str | None
    """Why there is no Kafka, in a sentence for people."""
    postgres_server: PostgresServer | None = None
    """The embedded server, if that is what it is."""
    kafka_server: KafkaServer | None = None
    """The embedded broker, if that is what it is."""


@contextmanager
def provision(
    postgres: PostgresSource | None = None,
    kafka: KafkaSource | None = None,
    *,
    state_dir: Path,
    progress: Progress | None = None,
) -> Iterator[Provisioned]:
    """Have PostgreSQL, and Kafka if it can be had, while the block runs; then stop what was started, Kafka first.

    That Kafka cannot be had, for want of a package, a network or memory, is no error: `kafka_unavailable_reason` says
    why. An address that does not answer is one, since somebody meant it.

    Args:
        postgres: where PostgreSQL comes from; by default what `EVENTSTORE_POSTGRES` says, else embedded.
        kafka: where Kafka comes from; by default what `EVENTSTORE_KAFKA` says, else embedded.
        state_dir: where embedded servers keep their data from one run to the next, in `postgres` and `kafka`.
        progress: hears what is being done.

    Raises:
        DevServerError: there is no PostgreSQL, or a setting is wrong.
    """
    progress = progress or SilentProgress()
    with ExitStack() as stack:
        chosen_kafka = kafka or kafka_source()
        dsn, postgres_server = _postgres(postgres or postgres_source(), state_dir, progress, stack)
        bootstrap, reason, kafka_server = _kafka(chosen_kafka, state_dir, progress, stack)
        if reason is not None:
            progress.step(f"No Kafka: {reason}")
        yield Provisioned(dsn, bootstrap, reason, postgres_server, kafka_server)


def _postgres(
    source: PostgresSource, state_dir: Path, progress: Progress, stack: ExitStack
) -> tuple[str, PostgresServer | None]:
    match source:
        case Address(dsn):
            progress.step(f"Using PostgreSQL at {describe_address(dsn)}")
            return dsn, None
        case Docker():
            progress.step(f"Starting {containers.POSTGRES_IMAGE} in Docker")
            return stack.enter_context(containers.postgres_container()), None
        case Embedded():
            progress.step("Starting PostgreSQL")
            server = stack.enter_context(start_postgres(state_dir / "postgres"))
            progress.step(f"PostgreSQL {server.version} runs on {server.address}")
            return server.dsn, server


def _kafka(
    source: KafkaSource, state_dir: Path, progress: Progress, stack: ExitStack
) -> tuple[str | None, str | None, KafkaServer | None]:
    match source:
        case Absent(because):
            return None, because, None
        case Address(addresses):
            _check_reachable(addresses)
            progress.step(f"Using Kafka at {addresses}")
            return addresses, None, None
        case Docker():
            progress.step(f"Starting {containers.KAFKA_IMAGE} in Docker")
            try:
                return stack.enter_context(containers.kafka_container()), None, None
            except DevServerError as error:
                return None, str(error), None
        case Embedded():
            progress.step("Starting Kafka")
            try:
                server = stack.enter_context(start_kafka(state_dir / "kafka", progress=progress))
            except (DevServerError, OSError) as error:
                return None, str(error), None
            progress.step(f"Kafka {server.version} runs on {server.address}")
            return server.bootstrap, None, server


def _check_reachable(addresses: str) -> None:
    failures: list[str] = []
    for address in addresses.split(","):
        host, _, port = address.rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS):
                return
        except OSError as error:
            failures.append(f"{address} ({error})")
    raise DevServerError(f"Kafka does not answer at {', '.join(failures)}: start it, or change {KAFKA_VARIABLE}")
