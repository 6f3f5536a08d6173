"""pgbench running the same INSERT, one commit each: what the server gives when the client costs next to nothing."""

from __future__ import annotations

import asyncio
import re
import shutil
from pathlib import Path
from typing import Final

from benchmarks.domain import deposit
from benchmarks.payload import EVENTS_PER_STREAM
from eventstore.devserver import DevServerError, default_postgres_binaries

# pgbench takes `:word` for a variable wherever it stands, so that the JSON has blanks behind its colons.
_PAYLOAD: Final = deposit(1).model_dump_json().replace(":", ": ").replace("'", "''")
_SCRIPT: Final = f"""\
\\set stream :n / {EVENTS_PER_STREAM}
\\set version :n % {EVENTS_PER_STREAM} + 1
\\set n :n + 1
INSERT INTO raw.events (stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
    correlation_id, causation_id, occurred_at, recorded_at)
VALUES ('account-' || :run || '-' || :client_id || '-' || :stream, :version, uuidv7(), 'Deposited', 1,
    '{_PAYLOAD}', NULL, NULL, NULL, clock_timestamp(), clock_timestamp());
"""  # noqa: S608 - constants


def program() -> Path:
    """Return where pgbench is: beside the server's programs, or on the PATH.

    Raises:
        DevServerError: It is in neither place.
    """
    beside = default_postgres_binaries() / "pgbench"
    found = beside if beside.is_file() else shutil.which("pgbench")
    if found is None:
        raise DevServerError("pgbench is not installed (Debian: apt-get install postgresql-contrib)")
    return Path(found)


async def run(dsn: str, *, clients: int, seconds: float, number: int, directory: Path) -> float:
    """Run it for a while and return the events a second.

    Args:
        dsn: A database with the raw table.
        clients: Its connections.
        seconds: For how long; pgbench counts whole seconds.
        number: The number of the run, so that no two write the same streams.
        directory: Where its script may lie.

    Raises:
        DevServerError: It failed.
    """
    script = directory / "insert.pgbench"
    await asyncio.to_thread(script.write_text, _SCRIPT, encoding="utf-8")
    command = [program(), "-n", "-M", "prepared", "-f", script, "-c", clients, "-j", 2, "-T", max(1, round(seconds))]
    process = await asyncio.create_subprocess_exec(
        *map(str, command),
        "-D",
        "n=0",
        "-D",
        f"run={number}",
        dsn,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate()
    rate = re.search(r"tps = ([\d.]+)", said.decode())
    if process.returncode or rate is None:
        raise DevServerError(f"pgbench failed: {complaint.decode().strip()[-500:]}")
    return float(rate[1])
