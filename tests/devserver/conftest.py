"""Servers of their own for tests that kill them, cut them short and start them twice."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

from eventstore.devserver import DevServerError, SilentProgress, default_postgres_binaries, kafka
from eventstore.devserver.locks import KAFKA_LOCK
from eventstore.devserver.maven import fetch, read_lock
from eventstore.devserver.ports import free_port
from eventstore.devserver.removal import remove_servers
from fixtures.other_python import OtherPython

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """A data directory whose servers are gone after the test, whoever started them."""
    yield tmp_path / "server"
    remove_servers(tmp_path)


@pytest.fixture
def open_dir() -> Iterator[Path]:
    """A directory that every account of this machine can enter, unlike pytest's own."""
    directory = Path(tempfile.mkdtemp(prefix="eventstore-test-"))
    directory.chmod(0o755)
    yield directory
    remove_servers(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def own_port() -> int:
    """A free port that no other test's server comes to, by searching upwards from the usual ones or by chance."""
    return free_port(27_000 + 3 * (os.getpid() % 300))


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The embedded PostgreSQL; without it the test is skipped, or fails where CI says that it must be there."""
    return _required("EVENTSTORE_REQUIRE_POSTGRES", default_postgres_binaries)


@pytest.fixture(scope="session")
def kafka_programs() -> None:
    """Kafka's jars and Java; without them the test is skipped, or fails where CI says that they must be there."""

    def get() -> None:
        kafka.java()
        fetch(read_lock(KAFKA_LOCK), title="Apache Kafka", progress=SilentProgress())

    _required("EVENTSTORE_REQUIRE_KAFKA", get)


@pytest.fixture
def other_python() -> Iterator[Callable[..., OtherPython]]:
    """Start a program in another Python, with paths as its arguments; it is killed after the test at the latest."""
    started: list[OtherPython] = []

    def start(program: str, *arguments: Path) -> OtherPython:
        started.append(OtherPython(program, *arguments))
        return started[-1]

    yield start
    for process in started:
        process.kill()


def _required(variable: str, get: Callable[[], T]) -> T:
    try:
        return get()
    except DevServerError as error:
        if os.environ.get(variable) == "1":
            raise
        pytest.skip(str(error))
