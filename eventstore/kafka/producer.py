"""The transactional producer: all or nothing, and never used again after an error.

    started (fences whoever had the id, ends what they left open) --commit()--> idle --commit()--> ...
       any error or time-out in commit() --> broken: close it and start another; only Kafka knows how it ended

This module is the only one that knows aiokafka's inside, for three things: a pause in its sender, record batches of a
size that fits their topic, and a way to end a producer whose broker does not answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import ProducerClosed
from aiokafka.producer import sender
from aiokafka.producer.message_accumulator import BatchBuilder

from eventstore.errors import ClosedError
from eventstore.kafka.answers import CLOSE_SECONDS, answer, closed, finished

if TYPE_CHECKING:
    from eventstore.kafka.settings import KafkaSettings

BETWEEN_TRANSACTIONS: Final = 0.001
"""Seconds between two looks whether the last transaction is completed on the broker; aiokafka's own are 0.02."""

_TASKS_OF_SENDER: Final = ("_send_produce_req", "_do_add_partitions_to_txn", "_do_txn_commit")
"""What aiokafka's sender does in tasks of their own, of what is used here."""

_END_ATTEMPTS: Final = 5


def lower_pause_between_transactions() -> bool:
    """Let aiokafka begin a transaction soon after the last one; return whether it still has the constant for it.

    Without it everything is right, only slower: 25 ms a transaction instead of 2.
    """
    pause = getattr(sender, "BACKOFF_OVERRIDE", None)
    if not isinstance(pause, float):
        return False
    sender.BACKOFF_OVERRIDE = min(pause, BETWEEN_TRANSACTIONS)
    return True


class RecordBatch(NamedTuple):
    """Records of one partition, ready to be sent; `builder` is aiokafka's."""

    topic: str
    partition: int
    builder: Any


def new_builder(max_bytes: int) -> Any:
    """Return an empty record batch, to be filled by its `append` until that returns None.

    Args:
        max_bytes: How large it may grow; its first record is taken in any case.
    """
    return BatchBuilder(max_bytes, 0, is_transactional=True)


class TransactionalProducer:
    """Sends record batches in transactions, one after the other. Made by `started_producer`."""

    def __init__(self, producer: AIOKafkaProducer, answer_within: float) -> None:
        self._producer = producer
        self._within = answer_within
        self._is_broken = False

    async def commit(self, batches: Sequence[RecordBatch]) -> None:
        """Send batches in one transaction, and return once it is committed.

        Every send is awaited before the commit: else the commit succeeds without a batch that the broker refused.

        Raises:
            UnavailableError: Whether it was committed is unknown; this producer must not be used again.
            ClosedError: An earlier commit failed.
        """
        if self._is_broken:
            raise ClosedError("producer")
        self._is_broken = True  # until the contrary is proved, whatever ends this call
        await answer(self._producer.begin_transaction(), "beginning a transaction", self._within)
        await self._send(batches)
        await answer(self._producer.commit_transaction(), "committing a transaction", self._within)
        self._is_broken = False

    async def _send(self, batches: Sequence[RecordBatch]) -> None:
        sent: list[asyncio.Future[Any]] = []
        try:
            for topic, partition, builder in batches:
                sending = self._producer.send_batch(builder, topic, partition=partition)
                sent.append(await answer(sending, f"sending to {topic!r}", self._within))
            await answer(asyncio.gather(*sent), "acknowledging records", self._within)
        finally:
            for future in sent:
                future.cancel()  # nothing happens to those that are done; the others are nobody's business any more


@asynccontextmanager
async def started_producer(settings: KafkaSettings, transactional_id: str) -> AsyncIterator[TransactionalProducer]:
    """Start a producer for the length of the block; whoever had its transactional id is fenced.

    Raises:
        UnavailableError: Kafka cannot be reached, or does not answer.
    """
    lower_pause_between_transactions()
    producer = AIOKafkaProducer(
        **settings.client_options(),
        transactional_id=transactional_id,
        transaction_timeout_ms=int(settings.transaction_timeout * 1000),
        acks="all",
    )
    tasks = _noted_tasks(producer)
    try:
        # Ending what another one left open takes the broker as long as writing its markers.
        starting = finished(producer.start(), CLOSE_SECONDS)  # as in `connected`
        await answer(starting, "starting the producer", 2 * settings.answer_within)
        yield TransactionalProducer(producer, settings.answer_within)
    finally:
        await closed(_end(producer, tasks), 4 * CLOSE_SECONDS)


def _noted_tasks(producer: AIOKafkaProducer) -> set[asyncio.Task[Any]]:
    """Return the tasks that a producer's sender has under way, always as it is now.

    The sender keeps them to itself, and forgets them when it fails, as it does when it is fenced.
    """
    sender, tasks = producer._sender, set[asyncio.Task[Any]]()  # noqa: SLF001 - what else could say it

    def noted(work: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Coroutine[Any, Any, Any]]:
        async def note(*args: Any) -> Any:
            if (task := asyncio.current_task()) is not None:  # as it always is here
                tasks.add(task)
                task.add_done_callback(forget)
            return await work(*args)

        return note

    def forget(task: asyncio.Task[Any]) -> None:
        tasks.discard(task)
        _look_at(task)

    for name in _TASKS_OF_SENDER:
        setattr(sender, name, noted(getattr(sender, name)))
    return tasks


async def _end(producer: AIOKafkaProducer, tasks: Collection[asyncio.Task[Any]]) -> None:
    """Stop a producer that may be broken, and leave none of its tasks and connections behind.

    `stop()` alone waits for records that a dead broker will never acknowledge, and for its sender, which retries for
    ever: with them out of its way it only closes connections.
    """
    _drop_unsent(producer._message_accumulator)  # noqa: SLF001 - see above
    sender = producer._sender.sender_task  # noqa: SLF001 - the same
    for _ in range(_END_ATTEMPTS):
        left = {task for task in (sender, *tasks) if task is not None and not task.done()}
        if not left:
            break
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=CLOSE_SECONDS / _END_ATTEMPTS)
    await closed(producer.stop(), CLOSE_SECONDS)
    await closed(producer.client.close(), CLOSE_SECONDS)  # if that was cut short; last, because tasks connect
    _look_at(producer._txn_manager._transaction_waiter)  # noqa: SLF001 - what fenced it, if it had not begun to commit


def _drop_unsent(accumulator: Any) -> None:
    """Let nobody wait for what was not acknowledged."""
    waiting = {batch for queue in accumulator._batches.values() for batch in queue}  # noqa: SLF001 - see `_end`
    under_way = accumulator._pending_batches  # noqa: SLF001 - the same
    under_way |= waiting  # where aiokafka takes each out of, also one that waits to be sent once more
    accumulator.fail_all(ProducerClosed())
    for batch in tuple(under_way):
        for future in (batch.future, batch._drain_waiter):  # noqa: SLF001 - all that anybody could wait for
            _look_at(future)


def _look_at(future: asyncio.Future[Any]) -> None:
    """Look once at what nobody else may look at, or asyncio complains of it."""
    if future.done() and not future.cancelled():
        future.exception()
