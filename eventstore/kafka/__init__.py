"""Kafka: publishing exactly once by the broker's own transactions, and feeding projections from it."""

from eventstore.kafka.projecting import KafkaProjector
from eventstore.kafka.publishing import KafkaPublisher
from eventstore.kafka.settings import KafkaSettings

__all__ = ["KafkaProjector", "KafkaPublisher", "KafkaSettings"]
