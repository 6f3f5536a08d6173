"""What a careful programmer writes by hand in the place of a publisher and of a projection, with the drivers alone."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from benchmarks import raw
from benchmarks.broker import PARTITIONS
from benchmarks.domain import Deposited
from eventstore.kafka import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

_BATCH_BYTES: Final = 1_000_000
_SOURCE: Final = "/bank/accounts"
_CONSTANT: Final = [("ce_specversion", b"1.0"), ("content-type", b"application/json")]

UPSERT: Final = """
INSERT INTO balances (account, amount, deposits) VALUES ($1, $2, 1)
    ON CONFLICT (account) DO UPDATE SET amount = balances.amount + excluded.amount, deposits = balances.deposits + 1
"""
BALANCES: Final = "CREATE TABLE balances (account text PRIMARY KEY, amount bigint NOT NULL, deposits bigint NOT NULL)"


@asynccontextmanager
async def producing(bootstrap: str) -> AsyncIterator[AIOKafkaProducer]:
    """Open an idempotent producer whose records count when all replicas have them, with batches as large as ours."""
    options = KafkaSettings(bootstrap).client_options()
    async with AIOKafkaProducer(
        **options, acks="all", enable_idempotence=True, max_batch_size=_BATCH_BYTES, max_request_size=_BATCH_BYTES
    ) as producer:
        yield producer


async def publish(pool: asyncpg.Pool, producer: AIOKafkaProducer, topic: str, limit: int) -> int:
    """Publish the log page by page, and return how many events it has; a crash would leave holes or doubles.

    While a page is encoded, the next one is fetched and the one before it is on its way.
    """
    published, sent = 0, list[asyncio.Future[Any]]()
    fetching = asyncio.create_task(_page(pool, 0))
    while published < limit:
        found = await fetching
        if not found:
            break
        fetching = asyncio.create_task(_page(pool, found[-1][0]))
        batches = _encoded(producer, found)
        await asyncio.gather(*sent)
        sent = [await producer.send_batch(batch, topic, partition=partition) for partition, batch in batches]
        published += len(found)
    await asyncio.gather(*sent)
    fetching.cancel()
    await asyncio.wait({fetching})
    return published


async def project(pool: asyncpg.Pool, limit: int) -> int:
    """Upsert a row for each event, page by page, each page in one transaction; returns how many events there were."""
    validate = Deposited.__pydantic_validator__.validate_json
    after = projected = 0
    while projected < limit:
        found = await _page(pool, after)
        if not found:
            break
        rows = [(record[1], validate(record[6]).amount) for record in found]
        async with pool.acquire() as connection, connection.transaction():
            await connection.executemany(UPSERT, rows)
        after = found[-1][0]
        projected += len(found)
    return projected


async def _page(pool: asyncpg.Pool, after: int) -> list[Any]:
    page: list[Any] = await pool.fetch(
        f"{raw.SELECT} WHERE global_position > $1 ORDER BY global_position LIMIT {raw.PAGE}", after
    )
    return page


def _encoded(producer: AIOKafkaProducer, found: list[Any]) -> list[tuple[int, Any]]:
    """Return the batches of a page, with their partitions."""
    full: list[tuple[int, Any]] = []
    growing: dict[int, Any] = {}
    for record in found:
        key, partition, of_stream = _of_stream(record[1])
        headers = _headers(record, of_stream)
        timestamp = int(record[11].timestamp() * 1000)
        value = record[6].encode()
        batch = growing.get(partition)
        if batch is None or batch.append(timestamp=timestamp, key=key, value=value, headers=headers) is None:
            if batch is not None:
                full.append((partition, batch))
            batch = growing[partition] = producer.create_batch()
            batch.append(timestamp=timestamp, key=key, value=value, headers=headers)
    return full + list(growing.items())


@lru_cache(maxsize=65_536)
def _of_stream(stream_id: str) -> tuple[bytes, int, list[tuple[str, bytes]]]:
    """Return a stream's key, its partition, and the headers that all of its events have."""
    key = stream_id.encode()
    headers = [("ce_source", f"{_SOURCE}/{quote(stream_id)}".encode()), ("ce_subject", key), ("stream_id", key)]
    return key, (murmur2(key) & 0x7FFF_FFFF) % PARTITIONS, headers


def _headers(record: Any, of_stream: list[tuple[str, bytes]]) -> list[tuple[str, bytes]]:
    """Return the headers that the publisher writes."""
    position, _, version, event_id, event_type, schema, _, metadata, correlation, causation, occurred, recorded = record
    headers = [
        *_CONSTANT,
        ("ce_type", event_type.encode()),
        ("schema_version", str(schema).encode()),
        *of_stream,
        ("ce_id", str(event_id).encode()),
        ("ce_time", occurred.isoformat().encode()),
        ("recorded_at", recorded.isoformat().encode()),
        ("stream_version", str(version).encode()),
        ("global_position", str(position).encode()),
    ]
    for name, value in (("correlation_id", correlation), ("causation_id", causation), ("metadata", metadata)):
        if value is not None:
            headers.append((name, value.encode()))
    return headers
