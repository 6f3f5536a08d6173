"""Servers of their own for tests that kill them, cut them short and start them twice."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from eventstore.devserver import DevServerError, default_postgres_binaries
from eventstore.devserver.kafka import start_kafka
from eventstore.devserver.removal import remove_servers

QUICK = {"fsync": "off"}
"""For tests that lose no power: what PostgreSQL writes need not reach the disk."""


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


@pytest.fixture(scope="session")
def postgres_programs() -> Path:
    """The embedded PostgreSQL; without it the test is skipped, or fails where CI says that it must be there."""
    return _required("EVENTSTORE_REQUIRE_POSTGRES", default_postgres_binaries)


@pytest.fixture(scope="session")
def kafka_programs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Kafka's jars and Java; without them the test is skipped, or fails where CI says that they must be there."""

    def start_once() -> None:
        start_kafka(tmp_path_factory.mktemp("kafka") / "server").remove()

    _required("EVENTSTORE_REQUIRE_KAFKA", start_once)


@contextmanager
def another_process(program: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python that runs `program`, killed (SIGKILL) at the end of the block if it still runs."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with child:
        try:
            yield child
        finally:
            child.send_signal(signal.SIGKILL)


def line_of(child: subprocess.Popen[str]) -> str:
    """The next line that the child prints; waits for it."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def _required(variable: str, get: Callable[[], T]) -> T:
    try:
        return get()
    except DevServerError as error:
        if os.environ.get(variable) == "1":
            raise
        pytest.skip(str(error))
