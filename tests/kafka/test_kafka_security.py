"""Signing in and encryption, against a broker that demands them: PLAIN, SCRAM and certificates; and no secret shown."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from eventstore import Application, EventStore, Publisher
from eventstore.devserver import DevServerError, Embedded, KafkaServer, kafka_source, start_kafka
from eventstore.devserver.ports import free_port
from eventstore.errors import ConfigurationError
from eventstore.kafka import KafkaSettings
from fixtures.kafka import REQUIRED
from fixtures.kafka_tools import Kafka, fill, is_whole, publish_all, working
from fixtures.run import unavailable
from fixtures.shop import events

USER, SECRET = "alice", "s3cret-of-alice"
CLASSES = "org.apache.kafka.common.security"
LISTENERS = {"SASL": "SASL_PLAINTEXT", "TLS": "SSL", "BOTH": "SASL_SSL"}


@dataclass(frozen=True)
class SecureBroker:
    """A broker with a listener for each way in.

    Attributes:
        ports: The port of each listener.
        certificates: The directory of the certificates: of the authority, the broker, and a client.
    """

    ports: dict[str, int]
    certificates: Path

    def settings(self, listener: str, **more: Any) -> KafkaSettings:
        """Return the way in through a listener."""
        protocol = LISTENERS[listener]
        context = None if protocol == "SASL_PLAINTEXT" else self.context(client=protocol == "SSL")
        signed_in = {} if protocol == "SSL" else {"sasl_username": USER, "sasl_password": SECRET}
        given = {"security_protocol": protocol, "ssl_context": context, **signed_in, **more}
        return KafkaSettings(f"127.0.0.1:{self.ports[listener]}", **given)

    def context(self, *, client: bool) -> ssl.SSLContext:
        """Return what trusts the authority, and shows the client's certificate if it is to."""
        context = ssl.create_default_context(cafile=self.certificates / "ca.crt")
        if client:
            context.load_cert_chain(self.certificates / "client.crt", self.certificates / "client.key")
        return context


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureBroker]:
    """Start the broker, with a user for PLAIN and SCRAM, and certificates made here."""
    if not isinstance(kafka_source(), Embedded):
        pytest.skip("only an embedded broker can be given listeners")
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificates, is not installed")
    directory = tmp_path_factory.mktemp("secure")
    certificates = make_certificates(directory / "certificates")
    ports: dict[str, int] = {}
    for number, name in enumerate(LISTENERS):
        ports[name] = free_port(26_000 + 100 * number)
    try:
        server = start_kafka(directory / "kafka", settings=broker_settings(ports, certificates), heap_mb=256)
    except DevServerError as error:
        unavailable(REQUIRED, error)
    add_scram_user(server)
    yield SecureBroker(ports, certificates)
    server.remove()


def broker_settings(ports: dict[str, int], certificates: Path) -> dict[str, str]:
    addresses = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    protocols = "".join(f",{name}:{protocol}" for name, protocol in LISTENERS.items())
    settings = {
        "listeners": addresses,
        "advertised.listeners": addresses,
        "listener.security.protocol.map": f"CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT{protocols}",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(certificates / "broker.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates / "ca.crt"),
        "listener.name.tls.ssl.client.auth": "required",
    }
    for name in ("sasl", "both"):
        settings |= {
            f"listener.name.{name}.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            f"listener.name.{name}.plain.sasl.jaas.config": (
                f'{CLASSES}.plain.PlainLoginModule required user_{USER}="{SECRET}";'
            ),
            f"listener.name.{name}.scram-sha-256.sasl.jaas.config": f"{CLASSES}.scram.ScramLoginModule required;",
        }
    return settings


def make_certificates(directory: Path) -> Path:
    """Make an authority, and certificates of the broker and of a client that it has signed."""
    directory.mkdir()
    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(directory, "req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "ca.key", "-out", "ca.crt")
    for name in ("broker", "client"):
        (directory / f"{name}.ext").write_text("subjectAltName=IP:127.0.0.1\n", encoding="ascii")
        openssl(directory, "req", *key[:3], "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
        signing = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext")
        openssl(directory, "x509", "-req", "-in", f"{name}.csr", *signing, "-out", f"{name}.crt")
    chain = [(directory / name).read_text(encoding="ascii") for name in ("broker.key", "broker.crt", "ca.crt")]
    (directory / "broker.pem").write_text("".join(chain), encoding="ascii")
    return directory


def openssl(directory: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=directory, check=True, capture_output=True)  # noqa: S603, S607 - ours


def add_scram_user(server: KafkaServer) -> None:
    """Give the broker a user for SCRAM, with Kafka's own tool."""
    kind: Any = server._kind
    change = ("--alter", "--add-config", f"SCRAM-SHA-256=[password={SECRET}]")
    command = kind._command(
        kind.home(server.data_dir),
        *("kafka.admin.ConfigCommand", "--bootstrap-server", server.bootstrap),
        *(*change, "--entity-type", "users", "--entity-name", USER),
    )
    subprocess.run(command, check=True, capture_output=True, timeout=60)  # noqa: S603 - our own


@pytest.mark.parametrize(
    ("listener", "mechanism"),
    [("SASL", "PLAIN"), ("SASL", "SCRAM-SHA-256"), ("TLS", "PLAIN"), ("BOTH", "PLAIN"), ("BOTH", "SCRAM-SHA-256")],
)
async def test_events_are_published_whatever_the_broker_demands(
    secure: SecureBroker, store: EventStore, listener: str, mechanism: str
) -> None:
    settings = secure.settings(listener, sasl_mechanism=mechanism)
    kafka = Kafka(settings, f"{listener}-{mechanism}.")
    await fill(store, streams=5, events=3)
    await publish_all(kafka, store)
    assert is_whole(await kafka.events(kafka.orders), streams=5, versions=3)


async def test_an_applications_workers_sign_in_too(secure: SecureBroker, store: EventStore) -> None:
    settings = secure.settings("BOTH")
    publisher = Publisher("orders", categories=["order"], topic_prefix="workers.", partitions=1)
    app = Application("shop", events=events, publishers=[publisher])
    await fill(store, streams=2, events=2)
    async with app.workers(store, "orders", kafka=settings) as workers:
        await workers["orders"].progress.caught_up(store.log, within=30)
    assert is_whole(await Kafka(settings, "workers.").events("workers.order"), streams=2, versions=2)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
async def test_a_wrong_password_is_said_and_not_shown(
    secure: SecureBroker, store: EventStore, mechanism: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = secure.settings("SASL", sasl_mechanism=mechanism, sasl_password="wr0ng")  # noqa: S106 - that it is
    publisher = Kafka(settings, "").publisher(store)
    async with working(publisher):
        await publisher.progress.until(lambda: publisher.progress.state == "starting")
        await publisher.progress.until(lambda: publisher.progress.state == "waiting")
    own = [record.getMessage() for record in caplog.records if record.name.startswith("eventstore")]
    assert any("cannot be reached" in line for line in own)
    for secret in ("wr0ng", SECRET, USER):
        assert not any(secret in line for line in own)


async def test_a_broker_that_nobody_vouches_for_is_not_spoken_to(
    secure: SecureBroker, store: EventStore, caplog: pytest.LogCaptureFixture
) -> None:
    strangers = replace(secure.settings("BOTH"), ssl_context=ssl.create_default_context())
    publisher = Kafka(strangers, "").publisher(store)
    async with working(publisher):
        await publisher.progress.until(lambda: publisher.progress.state == "starting")
        await publisher.progress.until(lambda: publisher.progress.state == "waiting")
    assert any("cannot be reached" in record.getMessage() for record in caplog.records)


def test_the_environment_says_how_to_sign_in(tmp_path: Path) -> None:
    environment = {
        "EVENTSTORE_KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "EVENTSTORE_KAFKA_SASL_MECHANISM": "SCRAM-SHA-256",
        "EVENTSTORE_KAFKA_SASL_USERNAME": USER,
        "EVENTSTORE_KAFKA_SASL_PASSWORD": SECRET,
    }
    settings = KafkaSettings.from_environment("broker:9093", environment)
    assert settings.sasl_mechanism == "SCRAM-SHA-256"
    assert settings.client_options()["sasl_plain_password"] == SECRET
    assert SECRET not in repr(settings)
    assert KafkaSettings.from_environment("broker:9092", {}) == KafkaSettings("broker:9092")
    with pytest.raises(ConfigurationError, match="EVENTSTORE_KAFKA_CA_FILE"):
        KafkaSettings.from_environment("broker:9093", {"EVENTSTORE_KAFKA_CA_FILE": str(tmp_path / "none.crt")})


def test_certificates_are_read_from_the_files_that_the_environment_names(secure: SecureBroker) -> None:
    files = {"CA": "ca.crt", "CERT": "client.crt", "KEY": "client.key"}
    environment = {f"EVENTSTORE_KAFKA_{name}_FILE": str(secure.certificates / file) for name, file in files.items()}
    environment["EVENTSTORE_KAFKA_SECURITY_PROTOCOL"] = "SSL"
    settings = KafkaSettings.from_environment("broker:9093", environment)
    assert settings.ssl_context is not None
    assert settings.ssl_context.cert_store_stats()["x509_ca"] == 1
