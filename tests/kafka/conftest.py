"""Kafka as one test sees it."""

from __future__ import annotations

import uuid

import pytest

from eventstore.kafka import KafkaSettings
from fixtures.kafka_tools import Kafka


@pytest.fixture
def kafka(kafka_bootstrap: str) -> Kafka:
    """The broker of the run, with names for topics that are this test's alone."""
    return Kafka(KafkaSettings(kafka_bootstrap), f"{uuid.uuid4().hex[:8]}.")
