"""Where PostgreSQL and Kafka come from: one setting each, read from the environment or given.

`EVENTSTORE_POSTGRES` is `embedded` (the default), `docker` or a `postgresql://` address.
`EVENTSTORE_KAFKA` is `embedded` (the default), `docker`, `none` or `host:port[,host:port]`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from typing_extensions import override

from eventstore.devserver.errors import DevServerError

if TYPE_CHECKING:
    from collections.abc import Mapping

POSTGRES_VARIABLE = "EVENTSTORE_POSTGRES"
KAFKA_VARIABLE = "EVENTSTORE_KAFKA"
HIGHEST_PORT = 65_535
HIDDEN = "(an address)"


@dataclass(frozen=True, slots=True)
class Embedded:
    """A server of our own, started from installed packages."""


@dataclass(frozen=True, slots=True)
class Docker:
    """A container, started through testcontainers and gone when this process ends."""


@dataclass(frozen=True, slots=True)
class Absent:
    """None at all (`none`): only Kafka can be left out.

    Attributes:
        because: Who left it out, as `no_kafka_because` and people are told.
    """

    because: str = field(default="it was not asked for", compare=False)


@dataclass(frozen=True, slots=True, repr=False)
class Address:
    """A server that somebody else runs. Its text may hold a password, so that neither `repr` nor `str` shows it."""

    value: str

    @override
    def __repr__(self) -> str:
        return f"Address({describe_address(self.value)!r})"


PostgresSource = Embedded | Docker | Address
KafkaSource = Embedded | Docker | Address | Absent


def parse_postgres_source(text: str) -> PostgresSource:
    """The source of PostgreSQL that a setting names.

    Raises DevServerError when it is neither a known word nor an address.
    """
    match text.strip():
        case "" | "embedded":
            return Embedded()
        case "docker":
            return Docker()
        case address if address.startswith(("postgresql://", "postgres://")):
            return Address(address)
    raise DevServerError(
        f"{POSTGRES_VARIABLE} must be 'embedded', 'docker' or an address that begins with postgresql://"
    )


def parse_kafka_source(text: str) -> KafkaSource:
    """The source of Kafka that a setting names.

    Raises DevServerError when it is neither a known word nor a list of host:port.
    """
    match text.strip():
        case "" | "embedded":
            return Embedded()
        case "docker":
            return Docker()
        case "none":
            return Absent(f"{KAFKA_VARIABLE} is 'none'")
        case addresses if all(_is_host_and_port(part) for part in addresses.split(",")):
            return Address(",".join(part.strip() for part in addresses.split(",")))
    raise DevServerError(f"{KAFKA_VARIABLE} must be 'embedded', 'docker', 'none' or host:port[,host:port]")


def postgres_source(environ: Mapping[str, str] = os.environ) -> PostgresSource:
    """The source of PostgreSQL that the environment names."""
    return parse_postgres_source(environ.get(POSTGRES_VARIABLE, ""))


def kafka_source(environ: Mapping[str, str] = os.environ) -> KafkaSource:
    """The source of Kafka that the environment names."""
    return parse_kafka_source(environ.get(KAFKA_VARIABLE, ""))


def describe_address(address: str) -> str:
    """An address as it may be shown: host, port and database at most, never a user's name or a password.

    An address that is not written by the rules (a password with a bare `/` or `@` in it) is not shown at all, since
    what looks like its host could be a part of the password.
    """
    if "://" not in address:
        return address if all(_is_host_and_port(part) for part in address.split(",")) else HIDDEN
    try:
        parts = urlsplit(address)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return HIDDEN
    if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
        return HIDDEN
    return f"{parts.scheme}://{host}" + (f":{port}" if port else "") + parts.path


def _is_host_and_port(text: str) -> bool:
    host, _, port = text.strip().rpartition(":")
    is_number = port.isascii() and port.isdigit()
    return bool(host) and not set(host) & set("/@ ") and is_number and 0 < int(port) <= HIGHEST_PORT
