"""Kafka Connect, standalone, with Debezium's PostgreSQL connector as its plugin, on the broker's Java runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from typing_extensions import override

from benchmarks.debezium.locks import CONNECT, CONNECTOR, connect_version
from eventstore.devserver import kafka, server
from eventstore.devserver.maven import fetch, file_sha256, read_lock
from eventstore.devserver.ports import LOOPBACK
from eventstore.devserver.reporting import SilentProgress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_ANSWER_SECONDS: Final = 10.0
_JAVA_OPTIONS: Final = (
    # What Kafka's own connect-standalone.sh gives its Java.
    "-Xms256M",
    "-Xmx2G",
    "-server",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:InitiatingHeapOccupancyPercent=35",
    "-XX:+ExplicitGCInvokesConcurrent",
    "-Djava.awt.headless=true",
)
_CONFIGURATION: Final = "worker.properties"
_STRING: Final = "org.apache.kafka.connect.storage.StringConverter"


class Connect(server.Server):
    """A worker of Kafka Connect on 127.0.0.1; everything here blocks."""

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Ask its REST interface.

        Raises:
            OSError: It refuses, or does not answer.
        """
        request = urllib.request.Request(
            f"http://{self.address}{path}",
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310 - the same
            said = answer.read()
        return json.loads(said) if said else None


def start(data_dir: Path, bootstrap: str) -> Connect:
    """Start a worker, or find the one that runs there, without connectors; the first start ever downloads 42 MB.

    Args:
        data_dir: For its files and its log.
        bootstrap: The broker.

    Raises:
        DevServerError: It could not be fetched, or did not start; the message says why.
    """
    worker = Connect(_Connect(bootstrap), data_dir.absolute())
    for name in worker.ask("GET", "/connectors"):
        worker.ask("DELETE", f"/connectors/{name}")  # a killed run left it, and its database is gone
    return worker


class _Connect(server.Kind):
    title = "Kafka Connect"
    program = "java"
    preferred_port = 28_083
    log_name = "connect.log"
    marker = "plugins"
    port_is_taken = "Address already in use"
    stop_signals = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

    def __init__(self, bootstrap: str) -> None:
        self._java = kafka.java()
        self._bootstrap = bootstrap
        self._classpath: Sequence[Path] = ()
        self._plugin: Sequence[Path] = ()

    @property
    @override
    def signature(self) -> Mapping[str, str]:
        return {
            "java": str(self._java),
            "options": " ".join(_JAVA_OPTIONS),
            "bootstrap": self._bootstrap,
            "jars": file_sha256(CONNECT),
            "plugin": file_sha256(CONNECTOR),
        }

    @override
    def home(self, data_dir: Path) -> server.Home:
        return server.Home(data_dir / f"connect-{file_sha256(CONNECTOR)[:16]}", connect_version())

    @override
    def prepare(self, home: server.Home) -> None:
        self._classpath = fetch(read_lock(CONNECT), title="Kafka Connect", progress=SilentProgress())
        self._plugin = fetch(read_lock(CONNECTOR), title="Debezium", progress=SilentProgress())
        _offsets(home).unlink(missing_ok=True)  # of connectors of former runs, whose databases are gone

    @override
    def initialise(self, draft: Path, home: server.Home) -> None:
        plugin = draft / self.marker / "debezium-connector-postgres"
        plugin.mkdir(parents=True)
        for jar in self._plugin:
            shutil.copy(jar, plugin)

    @override
    def launch(self, home: server.Home, port: int) -> server.Launch:
        settings = {
            "bootstrap.servers": self._bootstrap,
            "listeners": f"http://{LOOPBACK}:{port}",
            "plugin.path": str(home.path / self.marker),
            "offset.storage.file.filename": str(_offsets(home)),
            "offset.flush.interval.ms": "10000",
            "key.converter": _STRING,
            "value.converter": _STRING,
        }
        written = "".join(f"{name}={value}\n" for name, value in settings.items())
        (home.path / _CONFIGURATION).write_text(written, encoding="utf-8")
        return server.Launch(
            command=(
                self._java,
                *_JAVA_OPTIONS,
                "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                "-Dorg.slf4j.simpleLogger.showDateTime=true",
                "-cp",
                os.pathsep.join(str(jar) for jar in self._classpath),
                "org.apache.kafka.connect.cli.ConnectStandalone",
                _CONFIGURATION,
            ),
            cwd=home.path,
            env=kafka.java_environment(),
        )

    @override
    def probe(self, home: server.Home, port: int) -> None:
        question = f"http://{LOOPBACK}:{port}/connectors"
        try:
            with urllib.request.urlopen(question, timeout=_ANSWER_SECONDS) as answer:
                json.loads(answer.read())
        except (OSError, ValueError) as error:
            raise server.ProbeError(str(error)) from error


def _offsets(home: server.Home) -> Path:
    return home.path.with_name("offsets")
