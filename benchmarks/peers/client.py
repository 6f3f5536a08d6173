"""Our side of the line to a peer's process."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from benchmarks.peers.environments import CannotBeHadError, Library, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CONNECTIONS: Final = 32
"""Each peer has as many connections as raw asyncpg has in the rows with 32 callers."""

_ROOT: Final = Path(__file__).parent.parent.parent
_SECONDS: Final = 900


class PeerFailedError(Exception):
    """A peer's process failed; the message has the end of what it said."""


class UnsupportedError(Exception):
    """The peer has no such thing."""


class PeerProcess:
    """A peer in a process of its own, which does one thing at a time; `dsn` is the database that it has."""

    def __init__(self, library: Library, dsn: str, process: asyncio.subprocess.Process, said: Path) -> None:
        self.library = library
        self.dsn = dsn
        self._process = process
        self._said = said

    async def ask(self, work: str, **arguments: Any) -> dict[str, Any]:
        """Have work done and return the answer.

        Raises:
            UnsupportedError: The library has no such thing.
            PeerFailedError: It failed.
        """
        assert self._process.stdin is not None  # noqa: S101 - a pipe
        self._process.stdin.write((json.dumps({"work": work} | arguments) + "\n").encode())
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """Return its next answer."""
        assert self._process.stdout is not None  # noqa: S101 - a pipe
        try:
            async with asyncio.timeout(_SECONDS):
                line = await self._process.stdout.readline()
        except TimeoutError:
            raise PeerFailedError(f"no answer within {_SECONDS} s") from None
        if not line:
            raise PeerFailedError(f"its process ended: {self._tail()}")
        answer: dict[str, Any] = json.loads(line)
        if "unsupported" in answer:
            raise UnsupportedError(answer["unsupported"])
        if "failed" in answer:
            raise PeerFailedError(f"{answer['failed']} ({self._tail()})")
        return answer

    def _tail(self) -> str:
        lines = self._said.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing"


@asynccontextmanager
async def running(library: Library, dsn: str, connections: int = CONNECTIONS) -> AsyncIterator[PeerProcess]:
    """Run a peer on an empty database for as long as the block lasts.

    Raises:
        CannotBeHadError: It cannot be installed here.
        PeerFailedError: It did not start.
    """
    python, variables = await asyncio.to_thread(environment, library)
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        said = Path(directory) / "stderr"
        with said.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                python,
                "-m",
                "benchmarks.peers",
                library.module,
                dsn,
                str(connections),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                cwd=_ROOT,
                env=os.environ | variables,
            )
        peer = PeerProcess(library, dsn, process, said)
        try:
            await peer.answer()
            yield peer
        finally:
            await _end(process)


async def _end(process: asyncio.subprocess.Process) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe
    process.stdin.close()
    try:
        async with asyncio.timeout(10):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


__all__ = ["CannotBeHadError", "Library", "PeerFailedError", "PeerProcess", "UnsupportedError", "running"]
