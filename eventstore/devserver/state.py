"""What a data directory remembers about its server, the lock that only one starter at a time holds, and who uses it.

The server outlives whoever started it and was killed: the next start reads here which process it is. What is written
stays when the server is stopped, so that it gets the same port again.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, ClassVar

from eventstore.devserver.errors import DevServerError
from eventstore.devserver.processes import ServerProcess

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

STATE_FILE = "server.json"
LOCK_FILE = "server.lock"
USERS_FILE = "server.users"
POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class ServerState:
    """The server that was started last for a data directory; whether it still runs is another question."""

    pid: int
    started: str
    port: int
    version: str
    home: str
    """Where the server's files are: below the data directory, or elsewhere if the server's account cannot get there."""
    note: str = ""
    """Why `home` is elsewhere, for people who look into this file."""
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def process(self) -> ServerProcess:
        """The process that was started."""
        return ServerProcess(self.pid, self.started)


def read_state(data_dir: Path) -> ServerState | None:
    """What was written last; None when nothing was, or when it cannot be read (then no server is found again)."""
    try:
        return ServerState(**json.loads((data_dir / STATE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def write_state(data_dir: Path, state: ServerState) -> None:
    """Replace the state in one step."""
    draft = data_dir / f"{STATE_FILE}.new"
    draft.write_text(json.dumps(asdict(state), indent=2) + "\n", encoding="utf-8")
    draft.replace(data_dir / STATE_FILE)


@contextmanager
def locked(data_dir: Path, *, seconds: float) -> Iterator[None]:
    """Hold the data directory for ourselves; the kernel lets go when we end, however we end.

    Raises DevServerError when somebody else holds it for longer than `seconds`, or it belongs to somebody else.
    """
    deadline = time.monotonic() + seconds
    try:
        handle = os.open(data_dir / LOCK_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DevServerError(f"{data_dir} cannot be used ({error.strerror}): choose a directory of yours") from error
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise DevServerError(
                        f"another process has been starting or stopping the server in {data_dir} for {seconds:.0f} s: "
                        "wait for it, or end it"
                    ) from None
                time.sleep(POLL_SECONDS)
            else:
                break
        yield
    finally:
        fcntl.flock(handle, fcntl.LOCK_UN)  # a child that another thread forks has the handle, too
        os.close(handle)


class Use:
    """One of those who use a running server: it is stopped by whoever ends last, not by whoever ends first.

    Each holds a shared lock on a file that every server gets anew, so that those of a server that is gone do not count.
    The kernel lets go when a user ends, however it ends, and a child that it forked does not count for it. Hold the
    directory's lock to begin and to end one.
    """

    _handles: ClassVar[set[int]] = set()

    def __init__(self, data_dir: Path) -> None:
        self._handle = os.open(data_dir / USERS_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._handles.add(self._handle)
        fcntl.flock(self._handle, fcntl.LOCK_SH)

    def end(self) -> bool:
        """Use it no longer; returns whether nobody else does."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            return True
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)
            self._handles.discard(self._handle)
            os.close(self._handle)

    @classmethod
    def forget_all(cls) -> None:
        """Close what a forked child has of its parent's."""
        while cls._handles:
            os.close(cls._handles.pop())


os.register_at_fork(after_in_child=Use.forget_all)


def forget_users(data_dir: Path) -> None:
    """Begin a server's list of users: those of the last one have lost it."""
    (data_dir / USERS_FILE).unlink(missing_ok=True)
