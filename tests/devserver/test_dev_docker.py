"""What is asked of Docker, and how its refusal is told; a stand-in takes the place of the daemon."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, ClassVar

import pytest

from eventstore.devserver import Absent, Address, DevServerError, Docker, PostgresServer, provision, start_postgres
from eventstore.devserver.postgres_probe import ask

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = Address("postgresql://127.0.0.1:1/shop")


class StandIn:
    """A container: in place of an image, it runs an embedded server on the port that was bound."""

    data_dir: ClassVar[Path]
    started: ClassVar[list[StandIn]]

    def __init__(self, image: str, env: dict[str, str]) -> None:
        self.image = image
        self.env = env
        self.ports: dict[str, tuple[str, int]] = {}
        self.server: PostgresServer | None = None

    def start(self) -> None:
        self.started.append(self)
        _, port = self.ports["5432/tcp"]
        self.server = start_postgres(self.data_dir, port=port, settings={"fsync": "off"})

    def stop(self) -> None:
        if self.server is not None:
            self.server.stop()


class Refusing(StandIn):
    def start(self) -> None:
        raise OSError("Cannot connect to the Docker daemon")


def _use(stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "testcontainers.core.container", SimpleNamespace(DockerContainer=stand_in))


@pytest.mark.usefixtures("postgres_programs")
def test_a_container_serves_on_loopback_and_goes_with_the_block(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(StandIn, monkeypatch)
    monkeypatch.setattr(StandIn, "data_dir", data_dir, raising=False)
    monkeypatch.setattr(StandIn, "started", [], raising=False)
    with provision(Docker(), Absent(), state_dir=data_dir) as servers:
        (container,) = StandIn.started
        host, port = container.ports["5432/tcp"]
        assert host == "127.0.0.1"
        assert servers.postgres_dsn == f"postgresql://postgres@127.0.0.1:{port}/postgres"
        assert ask(port, "SELECT 1", timeout=5) == "1"
    assert container.server is not None
    assert not container.server.is_running()


def test_a_refusal_is_an_error_for_postgres_and_a_reason_for_kafka(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use(Refusing, monkeypatch)
    with (
        pytest.raises(DevServerError, match=r"Docker cannot run postgres:18 \(Cannot connect.*choose 'embedded'"),
        provision(Docker(), Absent(), state_dir=tmp_path),
    ):
        pytest.fail("there is no PostgreSQL")
    with provision(ELSEWHERE, Docker(), state_dir=tmp_path) as servers:
        assert servers.kafka_bootstrap is None
        assert "Docker cannot run apache/kafka" in str(servers.kafka_unavailable_reason)
