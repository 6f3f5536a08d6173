"""What all tests share. Each module in `fixtures/` is about one subject."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from eventstore.testing.databases import DatabasesForTests

pytest_plugins = [
    "fixtures.run",
    "fixtures.postgres",
    "fixtures.postgres15",
    "fixtures.campaigns",
    "fixtures.parking",
    "fixtures.kafka",
    "fixtures.kafka_cluster",
    "fixtures.secure_kafka",
    "fixtures.relay_broker",
    "fixtures.relay",
    "fixtures.stores",
    "fixtures.own_postgres",
    "fixtures.replicas",
    "fixtures.properties",
    "fixtures.tcp_proxy",
    "fixtures.pgbouncer",
    "fixtures.lost_answers",
    "fixtures.transitions",
]

if not any(plugin.value == "eventstore.testing.plugin" for plugin in entry_points(group="pytest11")):
    pytest_plugins.append("eventstore.testing.plugin")  # a checkout that is not installed


@pytest.fixture(scope="session")
def eventstore_databases(postgres_server: DatabasesForTests) -> DatabasesForTests:
    """Let the plugin's own fixtures use the server of the run."""
    return postgres_server
