"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Final

from benchmarks import server
from benchmarks.debezium.locks import connector_version
from benchmarks.peers.environments import LIBRARIES, python_version
from eventstore.devserver.locks import KAFKA_LOCK
from eventstore.devserver.maven import read_lock

_WRITTEN: Final = (":!benchmarks/results.json", ":!docs")
"""What a run writes itself does not change what is measured."""


async def describe(dsn: str) -> dict[str, Any]:
    """Return the machine, the server and the versions, for the results' file."""
    settings = await server.settings(dsn)
    directory = settings.pop("data_directory")
    return {
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "data_directory_on": server.filesystem_of(directory),
        "postgresql": settings.pop("server_version"),
        "settings": settings,
        "python": platform.python_version(),
        "packages": {
            name: version(name) for name in ("pg-eventstore", "asyncpg", "aiokafka", "pydantic", "pydantic-core")
        },
        "peers": {library.name: library.version for library in LIBRARIES},
        "python_of_peers": python_version(),
        "kafka": kafka_version(),
        "debezium": connector_version(),
        "commit": commit(),
    }


def pace() -> float:
    """Return how many milliseconds of processor Python takes for a million additions.

    A machine is fast one day and slow the next: who holds figures of two runs against each other must know.
    """
    return median(_million_additions() for _ in range(5))


def _million_additions() -> float:
    began = time.thread_time()
    total = 0
    for number in range(1_000_000):
        total += number
    return 1000 * (time.thread_time() - began)


def kafka_version() -> str:
    """Return the version of the broker, as locked."""
    return next(artifact.version for artifact in read_lock(KAFKA_LOCK) if artifact.name == "kafka-clients")


def commit() -> str:
    """Return the checkout's commit, with a `+` when something is not committed."""
    root = Path(__file__).parent.parent
    try:
        name = _git(root, "rev-parse", "--short=12", "HEAD")
        changed = _git(root, "status", "--porcelain", "--untracked-files=no", "--", ".", *_WRITTEN)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return name + ("+" if changed else "")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
