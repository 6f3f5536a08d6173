"""Signing in and encryption, against a broker that demands them: PLAIN, SCRAM and certificates; and no secret shown."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path

import pytest

from eventstore import Application, EventStore, Projection, Publisher
from eventstore.errors import ConfigurationError
from eventstore.kafka import KafkaSettings
from eventstore.kafka.lags import kafka_lags
from fixtures.kafka_sales import count, counted, each, project_all, sales
from fixtures.kafka_tools import Kafka, fill, is_whole, publish_all, working
from fixtures.secure_kafka import SECRET, USER, SecureBroker
from fixtures.shop import OrderPlaced, events


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


async def test_a_read_model_behind_kafka_and_its_dead_letters_sign_in_too(
    secure: SecureBroker, store: EventStore
) -> None:
    kafka = Kafka(secure.settings("BOTH", sasl_mechanism="SCRAM-SHA-256"), "fed.")
    await fill(store, streams=3, events=2)
    await publish_all(kafka, store)
    record, *_ = await kafka.committed(kafka.orders)
    record.headers, record.value = (), b"not ours"
    await kafka.produce(kafka.orders, record)
    lettered = Projection("sales", setup=sales.setup, dead_letters="fed.dead")
    lettered.on(OrderPlaced)(count)
    await project_all(kafka, store, projection=lettered)
    assert await counted(store) == each(3, 2)
    assert [one.value for one in await kafka.committed("fed.dead")] == [b"not ours"]
    ((consumer, topic, offsets),) = await kafka_lags(kafka.settings, store.database)
    assert (consumer, topic) == ("sales@1", kafka.orders)
    assert offsets is not None


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


def test_the_environment_says_how_long_to_wait() -> None:
    said = {"ANSWER_WITHIN": "2.5", "TRANSACTION_TIMEOUT": "30", "SESSION_TIMEOUT": "10", "CLIENT_ID": "shop"}
    settings = KafkaSettings.from_environment("b:1", {f"EVENTSTORE_KAFKA_{name}": text for name, text in said.items()})

    waits = KafkaSettings("b:1", answer_within=2.5, transaction_timeout=30.0, session_timeout=10.0, client_id="shop")
    assert settings == waits


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5s", "EVENTSTORE_KAFKA_ANSWER_WITHIN is a number of seconds, such as 2.5, not '5s'"),
        ("nan", "EVENTSTORE_KAFKA_ANSWER_WITHIN is a number of seconds"),
        ("inf", "EVENTSTORE_KAFKA_ANSWER_WITHIN is a number of seconds"),
        ("0", "answer_within must be 0.001 to 2147483 seconds"),
        ("1e9", "answer_within must be 0.001 to 2147483 seconds"),
        ("12", "transaction_timeout must be above answer_within"),
    ],
)
def test_a_wait_that_is_none_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        KafkaSettings.from_environment("b:1", {"EVENTSTORE_KAFKA_ANSWER_WITHIN": text})


def test_certificates_are_read_from_the_files_that_the_environment_names(secure: SecureBroker) -> None:
    files = {"CA": "ca.crt", "CERT": "client.crt", "KEY": "client.key"}
    environment = {f"EVENTSTORE_KAFKA_{name}_FILE": str(secure.certificates / file) for name, file in files.items()}
    environment["EVENTSTORE_KAFKA_SECURITY_PROTOCOL"] = "SSL"
    settings = KafkaSettings.from_environment("broker:9093", environment)
    assert settings.ssl_context is not None
    assert settings.ssl_context.cert_store_stats()["x509_ca"] == 1
