"""A publisher in a process of its own, which says each position that it has committed: `<dsn> <brokers> <prefix>`."""

from __future__ import annotations

import asyncio
import sys

from eventstore.kafka import KafkaSettings
from fixtures.kafka_tools import Kafka
from fixtures.shop import app
from fixtures.stores import open_store


async def main(dsn: str, brokers: str, prefix: str) -> None:
    async with open_store(dsn, app) as store:
        publisher = Kafka(KafkaSettings(brokers), prefix).publisher(store, batch=7)
        running = asyncio.create_task(publisher.run())
        said = 0
        while not running.done():
            await publisher.progress.until(lambda: publisher.progress.position > said)  # noqa: B023 - awaited in this turn
            said = publisher.progress.position
            print(said, flush=True)  # noqa: T201 - it is a program
        await running  # it has failed, and says why


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
