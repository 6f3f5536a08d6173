"""A Kafka projector in a process of its own, which its campaign stops at chosen places: `<settings as JSON>`.

It takes orders as `relay_program.py` does, and prints a line for each transaction that it has committed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from eventstore.db.database import ConnectionSession
from eventstore.kafka import KafkaProjector, KafkaSettings
from eventstore.kafka.arrivals import KafkaStretch
from eventstore.kafka.consuming import Records
from eventstore.kafka.feeding import Feed
from fixtures.in_effect import orders_as
from fixtures.shop import app
from fixtures.stopping import PLACES, say, take_orders
from fixtures.stores import open_store


def watch() -> None:
    """Let the code pass by the places."""
    apply = Feed._apply

    async def applies(self: Feed, records: Records) -> None:
        PLACES.at("fetched")
        await apply(self, records)
        PLACES.at("committed")
        say("committed")

    Feed._apply = applies  # type: ignore[method-assign]


def offsets_outside() -> None:
    """Move on in the partitions before events are applied, in a transaction of its own."""

    async def note(self: KafkaStretch, _: ConnectionSession) -> None:
        pool = self.places._database
        await self.places.move(pool, self.offsets, since=self.since, versions=self.versions)

    KafkaStretch.note = note  # type: ignore[method-assign,assignment]


async def main(given: dict[str, Any]) -> None:
    watch()
    if given["offsets_outside"]:
        offsets_outside()
    patience = {name: given[name] for name in ("answer_within", "session_timeout")}
    settings = KafkaSettings(given["brokers"], **patience)
    projection = orders_as(given["projection"], PLACES.at)
    async with open_store(given["dsn"], app) as store:
        orders = asyncio.create_task(take_orders(asyncio.Event()))
        await KafkaProjector(store, projection, settings, topics=[given["topic"]]).run()
        orders.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
