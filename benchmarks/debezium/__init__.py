"""Debezium's outbox router on Kafka Connect, as its users run it: what the publisher is measured against."""
