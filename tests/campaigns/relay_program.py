"""A publisher in a process of its own, which the relay campaign stops at chosen places: `<settings as JSON>`.

It prints a line when it is stopped, and for each part that it has committed. On stdin it takes orders, one a line:
`stop <place> <passes> [<next>]` stops it (SIGSTOP, by itself) at a place after so many passes; and, once it was woken
up there, at the next place too.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from eventstore import EventStore
from eventstore.errors import NotParkedByPublisherError
from eventstore.kafka import KafkaPublisher, KafkaSettings, repairing
from eventstore.kafka.cursor import Cursor
from eventstore.kafka.packing import Part
from eventstore.kafka.producer import RecordBatch, TransactionalProducer
from eventstore.kafka.taking_over import Tenure
from eventstore.outbox import Publisher
from fixtures.shop import app
from fixtures.stopping import PLACES, say, take_orders
from fixtures.stores import open_store

packing: Any = importlib.import_module("eventstore.kafka.packing")
taking_over: Any = importlib.import_module("eventstore.kafka.taking_over")
"""Where every publisher begins: what it calls is replaced there."""


def watch() -> None:
    """Let the code pass by the places, and give way while it packs even a few events."""
    packing.TURN = 3
    begin, send, commit = taking_over.started_producer, TransactionalProducer._send, TransactionalProducer.commit
    read = taking_over.read_cursor

    @asynccontextmanager
    async def started(settings: KafkaSettings, transactional_id: str) -> AsyncIterator[TransactionalProducer]:
        PLACES.at("fencing")
        async with begin(settings, transactional_id) as made:
            PLACES.at("fenced")
            yield made

    async def read_cursor(*args: Any) -> Cursor:
        cursor: Cursor = await read(*args)
        PLACES.at("cursor")
        return cursor

    async def sends(self: TransactionalProducer, batches: Sequence[RecordBatch]) -> None:
        PLACES.at("begun")
        await send(self, batches)
        PLACES.at("sent")

    async def commits(self: TransactionalProducer, batches: Sequence[RecordBatch]) -> None:
        PLACES.at("idle")
        await commit(self, batches)
        PLACES.at("committed")
        say("committed")

    taking_over.started_producer = started
    taking_over.read_cursor = read_cursor
    TransactionalProducer._send = sends  # type: ignore[method-assign]
    TransactionalProducer.commit = commits  # type: ignore[method-assign]


# --- what it would be without a rule: each is caught by the campaign ------------------------------------------------


def cursor_outside() -> None:
    """Write the cursor in a transaction of its own, after that of the records."""

    async def commit(self: Tenure, part: Part) -> None:
        if part.batches:
            await self._producer.commit(part.batches)
            PLACES.at("between")
        await self._producer.commit([part.cursor.record(self.group.cursor_topic)])
        self.cursor = part.cursor
        self.mirror.note(part.cursor)

    Tenure.commit = commit  # type: ignore[method-assign]


def cursor_first() -> None:
    """Read the cursor before the fencing."""
    begin, read = taking_over.started_producer, taking_over.read_cursor
    early: dict[str, Cursor] = {}

    @asynccontextmanager
    async def started(settings: KafkaSettings, transactional_id: str) -> AsyncIterator[TransactionalProducer]:
        topic = f"{transactional_id}-cursor"
        early[topic] = await read(settings, "early", topic)
        async with begin(settings, transactional_id) as made:
            yield made

    async def read_cursor(_settings: KafkaSettings, _name: str, topic: str) -> Cursor:
        return early[topic]

    taking_over.started_producer = started
    taking_over.read_cursor = read_cursor


def sends_unawaited() -> None:
    """Commit without waiting for what became of the records."""

    async def send(self: TransactionalProducer, batches: Sequence[RecordBatch]) -> None:
        for topic, partition, builder in batches:
            sent = await self._producer.send_batch(builder, topic, partition=partition)
            sent.add_done_callback(lambda future: future.cancelled() or future.exception())

    TransactionalProducer._send = send  # type: ignore[method-assign]


def an_id_for_each_instance() -> None:
    """Publish under a transactional id of the process's own."""
    begin = taking_over.started_producer

    @asynccontextmanager
    async def started(settings: KafkaSettings, transactional_id: str) -> AsyncIterator[TransactionalProducer]:
        async with begin(settings, f"{transactional_id}-{os.getpid()}") as made:
            yield made

    taking_over.started_producer = started


VARIANTS = {
    "cursor outside": cursor_outside,
    "cursor first": cursor_first,
    "sends unawaited": sends_unawaited,
    "an id each": an_id_for_each_instance,
}


# --- the program ---------------------------------------------------------------------------------------------------


async def main(given: dict[str, Any]) -> None:
    logging.basicConfig(
        format="%(asctime)s %(process)d %(message)s"
    )  # a run that fails shows who started over, and why
    watch()
    if given["variant"]:
        VARIANTS[given["variant"]]()
    settings = KafkaSettings(given["brokers"], answer_within=given["answer_within"])
    publisher = Publisher(**given["publisher"])
    async with open_store(given["dsn"], app) as store:
        armed = asyncio.Event()
        orders = asyncio.create_task(take_orders(armed))
        if given["unpark"]:
            await armed.wait()
            await unpark(store, publisher, settings, given["unpark"])
        else:
            await KafkaPublisher(store, publisher, settings, lease_seconds=given["lease_seconds"]).run()
        orders.cancel()


async def unpark(store: EventStore, publisher: Publisher, settings: KafkaSettings, stream_id: str) -> None:
    try:
        done = await repairing.unpark(store, publisher, settings, stream_id)
        say(f"unparked {done.sent}")
    except NotParkedByPublisherError:
        say("unparked 0")


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
