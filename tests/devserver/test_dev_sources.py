"""A setting says where a server comes from, and what it holds stays secret."""

from __future__ import annotations

import pytest

from eventstore.devserver import (
    Absent,
    Address,
    DevServerError,
    Docker,
    Embedded,
    kafka_source,
    parse_kafka_source,
    parse_postgres_source,
    postgres_source,
)
from eventstore.devserver.sources import describe_address
from eventstore.errors import ConfigurationError, EventStoreError


def test_without_a_setting_both_are_embedded() -> None:
    assert postgres_source({}) == kafka_source({}) == Embedded()


def test_words_and_addresses_are_understood() -> None:
    assert parse_postgres_source(" embedded ") == Embedded()
    assert parse_postgres_source("docker") == parse_kafka_source("docker") == Docker()
    assert parse_kafka_source("none") == Absent()
    assert parse_postgres_source("postgresql://db/shop") == Address("postgresql://db/shop")
    assert parse_kafka_source("one:9092, two:9092") == Address("one:9092,two:9092")
    assert postgres_source({"EVENTSTORE_POSTGRES": "docker"}) == kafka_source({"EVENTSTORE_KAFKA": "docker"})


@pytest.mark.parametrize("text", ["none", "mysql://db", "localhost:5432", "Embedded", "secret-word"])
def test_what_is_no_source_of_postgres_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(DevServerError, match="EVENTSTORE_POSTGRES must be") as caught:
        parse_postgres_source(text)
    assert text == "none" or text not in str(caught.value).replace("'embedded'", "")


@pytest.mark.parametrize(
    "text", ["kafka", "kafka:", ":9092", "kafka:0", "kafka:65536", "a:1,b", "me:secret@kafka:9092"]
)
def test_what_is_no_source_of_kafka_is_refused(text: str) -> None:
    with pytest.raises(DevServerError, match="EVENTSTORE_KAFKA must be") as caught:
        parse_kafka_source(text)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:secret@db:5432/shop",
        "postgresql://me:se/secret@db:5432/shop",
        "postgresql://me:se@secret@db:5432/shop",
        "postgresql://me:se#secret@db:5432/shop",
        "postgresql://me:se?secret@db:5432/shop",
        "postgresql://db/shop?user=me&password=secret",
        "postgresql://me:secret@[::1/shop",
        "postgresql://me:secret@db:port/shop",
    ],
)
def test_a_password_never_shows(address: str) -> None:
    shown = f"{Address(address)} {Address(address)!r} {describe_address(address)} {[Address(address)]}"
    assert "secret" not in shown
    assert "me" not in shown.replace("(an address)", "")


def test_host_port_and_database_show() -> None:
    assert describe_address("postgresql://me:secret@db:5432/shop") == "postgresql://db:5432/shop"
    assert repr(Address("one:9092,two:9092")) == "Address('one:9092,two:9092')"


def test_its_error_is_a_configuration_error_of_the_framework() -> None:
    assert issubclass(DevServerError, ConfigurationError)
    assert issubclass(DevServerError, EventStoreError)
