"""The command line against a broker that demands signing in and encryption."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from fixtures.cli_kit import EventstoreCommand
from fixtures.secure_kafka import SECRET, USER, SecureBroker


def test_every_command_signs_in_as_the_environment_says(
    secure: SecureBroker, es: EventstoreCommand, settings: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Publishing, projecting, looking, and mending."""
    module = "secure_shop"
    (tmp_path / f"{module}.py").write_text(
        "from cli_shop import make_app\napp = make_app('cli-', on_failure='park')", encoding="utf-8"
    )
    settings.setattr(sys, "path", [*sys.path, str(tmp_path)])
    settings.setenv("EVENTSTORE_APP", f"{module}:app")
    settings.setenv("EVENTSTORE_KAFKA", f"127.0.0.1:{secure.ports['BOTH']}")
    settings.setenv("EVENTSTORE_KAFKA_SECURITY_PROTOCOL", "SASL_SSL")
    settings.setenv("EVENTSTORE_KAFKA_SASL_USERNAME", USER)
    settings.setenv("EVENTSTORE_KAFKA_SASL_PASSWORD", SECRET)
    settings.setenv("EVENTSTORE_KAFKA_CA_FILE", str(secure.certificates / "ca.crt"))
    order = json.dumps({"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 1}})
    es.ok("append", "order-1", "--expected-version", "any", stdin=order)
    es.ok("publish", "orders", "--until-caught-up")
    es.ok("project", "sales", "--from", "kafka", "--until-caught-up")
    (reader,) = es.json("status")["kafka_readers"]
    assert (reader["name"], reader["lag"]) == ("sales@1", 0)
    assert "not parked 'order-1'" in es.fails(5, "publisher", "unpark", "orders", "order-1")
