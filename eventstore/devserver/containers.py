"""PostgreSQL and Kafka in Docker containers, for those who rather have them there.

testcontainers starts them and sees to it that they go away with this process, also when it is killed; what is in them
goes with them. The Docker daemon must be this machine's own, since the ports are bound to its 127.0.0.1.
"""

from __future__ import annotations

import importlib
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from eventstore.devserver import kafka_probe, logs, postgres_probe
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.kafka import SETTINGS as KAFKA_SETTINGS
from eventstore.devserver.ports import LOOPBACK, free_port
from eventstore.devserver.server import ProbeError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

POSTGRES_IMAGE = "postgres:18"
KAFKA_IMAGE = "apache/kafka:4.1.2"
PREFERRED_POSTGRES_PORT = 25_532
PREFERRED_KAFKA_PORT = 29_192
READY_SECONDS = 120.0
PROBE_SECONDS = 5.0
POLL_SECONDS = 0.1


@contextmanager
def postgres_container() -> Iterator[str]:
    """A PostgreSQL of its own in a container: the superuser's address of its database `postgres`.

    Raises DevServerError when Docker cannot be used or the server does not answer.
    """
    port = free_port(PREFERRED_POSTGRES_PORT)
    environment = {"POSTGRES_HOST_AUTH_METHOD": "trust"}

    def probe() -> None:
        postgres_probe.ask(port, "SELECT 1", timeout=PROBE_SECONDS)

    with _running(POSTGRES_IMAGE, 5432, port, environment, probe):
        yield f"postgresql://postgres@{LOOPBACK}:{port}/postgres"


@contextmanager
def kafka_container() -> Iterator[str]:
    """A Kafka broker of its own in a container: its `host:port`.

    Raises DevServerError when Docker cannot be used or the broker does not answer.
    """
    port = free_port(PREFERRED_KAFKA_PORT)
    settings = KAFKA_SETTINGS | {
        "listeners": "PLAINTEXT://:9092,CONTROLLER://:9093",
        "advertised.listeners": f"PLAINTEXT://{LOOPBACK}:{port}",
        "controller.quorum.voters": "1@localhost:9093",
    }
    environment = {f"KAFKA_{name.replace('.', '_').upper()}": value for name, value in settings.items()}

    def probe() -> None:
        kafka_probe.cluster_id(port, timeout=PROBE_SECONDS)

    with _running(KAFKA_IMAGE, 9092, port, environment, probe):
        yield f"{LOOPBACK}:{port}"


@contextmanager
def _running(
    image: str, inner_port: int, port: int, environment: Mapping[str, str], probe: Callable[[], None]
) -> Iterator[None]:
    try:
        docker: Any = importlib.import_module("testcontainers.core.container")
    except ImportError as error:
        raise DevServerError("testcontainers is not installed: pip install 'pg-eventstore[dev]'") from error
    container = None
    try:
        try:
            container = docker.DockerContainer(image, env=dict(environment))
            container.ports[f"{inner_port}/tcp"] = (LOOPBACK, port)
            container.start()
        except Exception as error:  # docker's client lets every layer's errors through
            raise DevServerError(f"Docker cannot run {image} ({error}): start Docker, or choose 'embedded'") from error
        _wait_until_ready(image, container, probe)
        yield
    finally:
        if container is not None:
            container.stop()


def _wait_until_ready(image: str, container: Any, probe: Callable[[], None]) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return probe()
        except ProbeError as error:
            if time.monotonic() > deadline:
                said = logs.last_lines(b"\n".join(container.get_logs()).decode(errors="replace"))
                raise DevServerError(f"{image} did not answer within {READY_SECONDS:.0f} s:\n{said}") from error
        time.sleep(POLL_SECONDS)
