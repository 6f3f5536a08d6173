"""How to reach Kafka, and how long to wait for its answers."""

from __future__ import annotations

import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import TYPE_CHECKING, Any

from eventstore.errors import ConfigurationError

if TYPE_CHECKING:
    from typing import Self

    from aiokafka.abc import AbstractTokenProvider

_VARIABLES = "EVENTSTORE_KAFKA_"
_TEXTS = ("client_id", "security_protocol", "sasl_mechanism", "sasl_username", "sasl_password")
_SECONDS = ("answer_within", "transaction_timeout", "session_timeout")
_HIGHEST_PORT = 65_535
_SHORTEST, _LONGEST = 0.001, 2_147_483.0  # seconds: Kafka counts milliseconds, in 32 bits
_SECURED = frozenset({"SSL", "SASL_SSL"})
_PROTOCOLS = frozenset({"PLAINTEXT", "SASL_PLAINTEXT"}) | _SECURED


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The address of a cluster and how to sign in. Neither `repr` nor any error shows who signs in, or with what.

    Attributes:
        bootstrap: Brokers to begin with: `host:port`, several separated by commas.
        security_protocol: `PLAINTEXT`, `SSL`, `SASL_PLAINTEXT` or `SASL_SSL`.
        ssl_context: Certificates; the system's trusted ones when left out.
        sasl_mechanism: `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`, `GSSAPI` or `OAUTHBEARER`.
        sasl_username: The user, for PLAIN and SCRAM.
        sasl_password: The password.
        sasl_token_provider: Gives tokens, for OAUTHBEARER.
        client_id: What the brokers' logs and quotas call this client.
        answer_within: Seconds after which a missing answer counts as a failure.
        transaction_timeout: Seconds after which the broker ends a dead publisher's open transaction; until then it
            holds readers back. A broker takes no more than its `transaction.max.timeout.ms`, 15 minutes by default.
        session_timeout: Seconds after which a group gives the partitions of a dead projector to another one. A broker
            takes no less than its `group.min.session.timeout.ms`, which is 6 s unless somebody has lowered it.

    Raises:
        ConfigurationError: A value is not usable.
    """

    bootstrap: str
    security_protocol: str = field(default="PLAINTEXT", kw_only=True)
    ssl_context: ssl.SSLContext | None = field(default=None, kw_only=True, repr=False)
    sasl_mechanism: str = field(default="PLAIN", kw_only=True)
    sasl_username: str | None = field(default=None, kw_only=True, repr=False)
    sasl_password: str | None = field(default=None, kw_only=True, repr=False)
    sasl_token_provider: AbstractTokenProvider | None = field(default=None, kw_only=True, repr=False)
    client_id: str = field(default="eventstore", kw_only=True)
    answer_within: float = field(default=5.0, kw_only=True)
    transaction_timeout: float = field(default=12.0, kw_only=True)
    session_timeout: float = field(default=6.0, kw_only=True)

    def __post_init__(self) -> None:
        if not all(_is_host_and_port(broker) for broker in self.brokers):
            raise ConfigurationError(
                "the Kafka address is written host:port[,host:port], with the port, and without a scheme or a user"
            )
        if self.security_protocol not in _PROTOCOLS:
            raise ConfigurationError(
                f"security_protocol must be one of {', '.join(sorted(_PROTOCOLS))}, not {self.security_protocol!r}"
            )
        for name in _SECONDS:
            seconds = getattr(self, name)
            if not isinstance(seconds, int | float) or not _SHORTEST <= seconds <= _LONGEST:
                raise ConfigurationError(f"{name} must be {_SHORTEST:g} to {_LONGEST:.0f} seconds")
        if self.transaction_timeout <= self.answer_within:
            raise ConfigurationError(
                "transaction_timeout must be above answer_within: otherwise the broker ends transactions that somebody "
                "still waits for"
            )

    @classmethod
    def from_environment(cls, bootstrap: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Return how to reach brokers, as EVENTSTORE_KAFKA_* says.

        SECURITY_PROTOCOL, SASL_MECHANISM, SASL_USERNAME, SASL_PASSWORD, CLIENT_ID, ANSWER_WITHIN, TRANSACTION_TIMEOUT
        and SESSION_TIMEOUT are the attributes of these names; CA_FILE is whom to trust, CERT_FILE and KEY_FILE what to
        show, all in PEM.

        Raises:
            ConfigurationError: A value is not usable, or a file cannot be read.
        """
        variables = {name: f"{_VARIABLES}{name.upper()}" for name in (*_TEXTS, *_SECONDS)}
        said = {name: text for name, variable in variables.items() if (text := environment.get(variable))}
        given: dict[str, Any] = {
            name: _seconds(variables[name], text) if name in _SECONDS else text for name, text in said.items()
        }
        return cls(bootstrap, ssl_context=_context(environment), **given)

    @property
    def brokers(self) -> list[str]:
        """The addresses of the brokers, each `host:port`."""
        return [broker.strip() for broker in self.bootstrap.split(",")]

    def client_options(self) -> dict[str, Any]:
        """Return what every aiokafka client is made with."""
        context = self.ssl_context
        if context is None and self.security_protocol in _SECURED:
            context = ssl.create_default_context()
        return {
            "bootstrap_servers": self.brokers,
            "client_id": self.client_id,
            "request_timeout_ms": int(self.answer_within * 1000),
            "security_protocol": self.security_protocol,
            "ssl_context": context,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
            "sasl_oauth_token_provider": self.sasl_token_provider,
        }


def _seconds(variable: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = nan
    if not isfinite(seconds):
        raise ConfigurationError(f"{variable} is a number of seconds, such as 2.5, not {text!r}")
    return seconds


def _context(environment: Mapping[str, str]) -> ssl.SSLContext | None:
    """Return the certificates that the environment names, if it names any."""
    authority, certificate, key = (environment.get(f"{_VARIABLES}{name}_FILE") for name in ("CA", "CERT", "KEY"))
    if not authority and not certificate:
        return None
    try:
        context = ssl.create_default_context(cafile=authority or None)
        if certificate:
            context.load_cert_chain(certificate, key or None)
    except OSError as error:  # an SSLError is one
        raise ConfigurationError(
            f"the certificates that {_VARIABLES}CA_FILE, {_VARIABLES}CERT_FILE and {_VARIABLES}KEY_FILE name cannot be "
            f"read ({type(error).__name__}): they must be there, in PEM, and the key without a password"
        ) from None
    return context


def _is_host_and_port(text: str) -> bool:
    host, _, port = text.rpartition(":")
    is_number = port.isascii() and port.isdigit()
    return bool(host) and not set(host) & set("/@ ") and is_number and 0 < int(port) <= _HIGHEST_PORT
