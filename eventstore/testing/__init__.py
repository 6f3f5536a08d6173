"""The testing kit: a store in memory, scenarios for aggregates, clocks and ids that tests decide, and a pytest plugin.

def test_ships_what_was_placed() -> None:
    given(Order, OrderPlaced(sku="tea", quantity=1)).when(lambda o: o.ship("dhl")).then(OrderShipped(carrier="dhl"))

async def test_append(eventstore: EventStore) -> None:  # in memory, or PostgreSQL with --eventstore=postgres
    await eventstore.append("order-1", [OrderPlaced(sku="tea", quantity=2)], expected_version=NO_STREAM)
"""

from eventstore.testing.memory import MemoryBackend, MemoryLog, memory_store
from eventstore.testing.scenarios import given
from eventstore.testing.time_and_ids import FakeClock, sequential_ids

__all__ = ["FakeClock", "MemoryBackend", "MemoryLog", "given", "memory_store", "sequential_ids"]
