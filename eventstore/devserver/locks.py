"""The lock files that ship beside this module."""

from pathlib import Path

KAFKA_LOCK = Path(__file__).with_name("kafka-jars.lock")
POSTGRES_15_LOCK = Path(__file__).with_name("postgres-15-jars.lock")
