"""A server's log file: kept small, and quoted when a start fails."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

KEEP_BYTES = 4_000_000
QUOTED_LINES = 12
QUOTED_BYTES = 8_000


def set_aside_if_large(log: Path) -> None:
    """Move a log that has grown large to `<name>.old`, in place of the one that was set aside before."""
    if log.exists() and log.stat().st_size > KEEP_BYTES:
        log.replace(log.with_name(f"{log.name}.old"))


def size(log: Path) -> int:
    """The log's length in bytes: where what is written next begins."""
    return log.stat().st_size if log.exists() else 0


def tail(log: Path, *, since: int = 0) -> str:
    """The last lines that were written after the first `since` bytes."""
    if not log.exists():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(since, size(log) - QUOTED_BYTES))
        return last_lines(stream.read().decode("utf-8", errors="replace"))


def last_lines(text: str) -> str:
    """As much of the end of a long text as an error can quote; Java's lines about where it was are left out."""
    lines = [line for line in text.splitlines() if not line.startswith("\tat ")]
    return "\n".join(lines[-QUOTED_LINES:])
