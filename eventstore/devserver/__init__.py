"""PostgreSQL and Kafka for development, the demo and tests: from packages alone, from Docker, or somebody's address.

    with provision(state_dir=Path(".eventstore")) as servers:
        ...  # servers.postgres_dsn, servers.kafka_bootstrap

Servers outlive a crash of whoever started them and are found again at the next start. Everything here blocks: call it
before the event loop runs, or in a thread.
"""

from eventstore.devserver.binaries import default_postgres_binaries, postgres_binaries
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.kafka import KafkaServer, start_kafka
from eventstore.devserver.postgres import PostgresServer, start_postgres
from eventstore.devserver.provisioning import Provisioned, provision
from eventstore.devserver.reporting import Progress, SilentProgress
from eventstore.devserver.sources import (
    Absent,
    Address,
    Docker,
    Embedded,
    KafkaSource,
    PostgresSource,
    kafka_source,
    parse_kafka_source,
    parse_postgres_source,
    postgres_source,
)

__all__ = [
    "Absent",
    "Address",
    "DevServerError",
    "Docker",
    "Embedded",
    "KafkaServer",
    "KafkaSource",
    "PostgresServer",
    "PostgresSource",
    "Progress",
    "Provisioned",
    "SilentProgress",
    "default_postgres_binaries",
    "kafka_source",
    "parse_kafka_source",
    "parse_postgres_source",
    "postgres_binaries",
    "postgres_source",
    "provision",
    "start_kafka",
    "start_postgres",
]
