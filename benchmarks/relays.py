"""Workers and readers in processes of their own, as they are in life: `python -m benchmarks.relays WORK ARGUMENT...`.

A process says `ready` in a line once it is at work; what it has found out comes in a second line, as JSON. It ends
when its work is done, or its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

from benchmarks import ours, workers
from benchmarks.broker import PARTITIONS
from benchmarks.pacing import age
from eventstore.kafka import KafkaSettings
from eventstore.lifecycle import running
from eventstore.projections import ProjectionWorker

if TYPE_CHECKING:
    from eventstore import EventStore
    from eventstore.runtime.workers import Worker

_ROOT: Final = Path(__file__).parent.parent
_SECONDS: Final = 120.0
_END_SECONDS: Final = 15.0


class RelayFailedError(Exception):
    """A process failed, and has said why on its standard error."""


class Relay:
    """Our side of a process; made by `relaying`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def answer(self) -> Any:
        """Return what it says next.

        Raises:
            RelayFailedError: It ended, or says nothing.
        """
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        try:
            async with asyncio.timeout(_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise RelayFailedError(f"no answer within {_SECONDS:.0f} s") from None
        if not line:
            raise RelayFailedError("it ended; it has said why")
        return json.loads(line)


@asynccontextmanager
async def relaying(work: str, *arguments: object) -> AsyncIterator[Relay]:
    """Have work done in a process of its own for the length of the block, which begins when it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.relays",
        work,
        *map(str, arguments),
        cwd=_ROOT,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,  # an answer is one line
    )
    assert process.stdin is not None  # noqa: S101 - a pipe
    relay = Relay(process)
    try:
        await relay.answer()
        yield relay
    finally:
        process.stdin.close()
        try:
            async with asyncio.timeout(_END_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


# --- the other side --------------------------------------------------------------------------------------------------


async def _publish(dsn: str, bootstrap: str, prefix: str) -> None:
    """Publish the log to a topic that is there."""
    async with ours.opened(dsn) as store, _at_work(workers.publisher(store, bootstrap, prefix), store):
        await asyncio.Event().wait()


async def _consume(bootstrap: str, topic: str, skipped: str, counted: str) -> None:
    """Read what is committed from now on; tell how old each event was when it came, after some that do not count."""
    consumer = AIOKafkaConsumer(
        **KafkaSettings(bootstrap).client_options(), isolation_level="read_committed", enable_auto_commit=False
    )
    async with consumer:
        partitions = [TopicPartition(topic, number) for number in range(PARTITIONS)]
        consumer.assign(partitions)
        await consumer.seek_to_end(*partitions)
        for partition in partitions:
            await consumer.position(partition)
        _say("ready")
        ages: list[float] = []
        while len(ages) < int(skipped) + int(counted):
            for records in (await consumer.getmany(timeout_ms=1000)).values():
                ages += [age(json.loads(record.value)["reference"]) for record in records]
    _say(ages[int(skipped) :])


async def _project(dsn: str, skipped: str, counted: str) -> None:
    """Project the log, and tell how old each event was when its row was committed."""
    async with ours.opened(dsn) as store:
        references: list[str] = []
        worker = ProjectionWorker(store, workers.balances("followed", references.append))
        await _projecting(worker, store, references, int(skipped), int(counted))


async def _project_from_kafka(dsn: str, bootstrap: str, prefix: str, skipped: str, counted: str) -> None:
    """Do the same from Kafka."""
    async with ours.opened(dsn) as store:
        references: list[str] = []
        worker = workers.projector(store, workers.balances("fed", references.append), bootstrap, prefix)
        await _projecting(worker, store, references, int(skipped), int(counted))


async def _projecting(worker: Worker, store: EventStore, references: list[str], skipped: int, counted: int) -> None:
    """Let a projection work; its progress moves when a batch is committed, and then the clock is looked at."""
    progress, ages = worker.progress, list[float]()
    async with _at_work(worker, store):
        before = progress.events
        while len(ages) < skipped + counted:
            seen = before + len(ages)
            await progress.until(lambda seen=seen: progress.events > seen)  # type: ignore[misc]
            ages += [age(reference) for reference in references[seen : progress.events]]
        _say(ages[skipped:])


@asynccontextmanager
async def _at_work(worker: Worker, store: EventStore) -> AsyncIterator[None]:
    """Run a worker for the length of the block, which begins when it is up with the log."""
    async with running(worker.run()):
        await worker.progress.until(lambda: worker.progress.state == "working")
        await worker.progress.caught_up(store.log)
        _say("ready")
        yield


def _say(what: object) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


_WORKS: Final[dict[str, Callable[..., Coroutine[Any, Any, None]]]] = {
    "publish": _publish,
    "consume": _consume,
    "project": _project,
    "project-from-kafka": _project_from_kafka,
}


async def _until_stdin_ends() -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    await reader.read()


async def _do(work: Coroutine[Any, Any, None]) -> None:
    """Do work until it is done or nobody wants it any more."""
    working, wanted = asyncio.create_task(work), asyncio.create_task(_until_stdin_ends())
    await asyncio.wait({working, wanted}, return_when=asyncio.FIRST_COMPLETED)
    for task in (working, wanted):
        task.cancel()
    with suppress(asyncio.CancelledError):
        await working


def main() -> None:
    """Do the work that the command line names."""
    work, *arguments = sys.argv[1:]
    asyncio.run(_do(_WORKS[work](*arguments)))


if __name__ == "__main__":
    main()
