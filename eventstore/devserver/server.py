"""What PostgreSQL and Kafka have in common as servers that outlive whoever started them.

A start holds the data directory's lock. It first looks for the server that is there already: one that answers as the
server of this directory is shared, one that does not is ended. Only then is a new one started. Whoever ends last of
those who share a server stops it.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from typing_extensions import override

from eventstore.devserver import logs
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.ports import LOOPBACK, free_port, is_free
from eventstore.devserver.processes import running_in, spawn
from eventstore.devserver.state import ServerState, Use, forget_users, locked, read_state, write_state

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager
    from types import TracebackType

    from eventstore.devserver.processes import OsUser, ServerProcess

START_SECONDS = 60.0
ADOPT_SECONDS = 10.0
STRAY_SECONDS = 1.0
KILL_SECONDS = 10.0
POLL_SECONDS = 0.02
PORT_ATTEMPTS = 5
# A first start downloads while it holds the lock.
LOCK_SECONDS = 600.0

Escalation = tuple[tuple[signal.Signals, float], ...]


class ProbeError(Exception):
    """The server does not answer (yet), or not as the server of this data directory."""


@dataclass(frozen=True, slots=True)
class Home:
    """A prepared directory of a server's own files."""

    path: Path
    version: str
    note: str = ""
    """Why it is not below the data directory, if it is not."""


@dataclass(frozen=True, slots=True)
class Launch:
    """How one server process is started."""

    command: Sequence[str | Path]
    cwd: Path
    env: Mapping[str, str]
    user: OsUser | None = None


class Kind(ABC):
    """What tells one kind of server from another."""

    title: str
    program: str
    """The base name of the program that its processes run."""
    preferred_port: int
    log_name: str
    marker: str
    """A file that every complete home has."""
    port_is_taken: str
    """What its log says when somebody else listens on its port."""
    stop_signals: Escalation

    @property
    @abstractmethod
    def signature(self) -> Mapping[str, str]:
        """All that was chosen for this server; a running one with another signature is started anew."""

    @abstractmethod
    def home(self, data_dir: Path) -> Home:
        """Where the server's files are for a data directory, without making them."""

    @abstractmethod
    def prepare(self, home: Home) -> None:
        """Have what a start needs beside the home; if that is there already, check that it can be served."""

    @abstractmethod
    def initialise(self, draft: Path, home: Home) -> None:
        """Make the server's files in an empty directory, which becomes the home when this returns."""

    @abstractmethod
    def launch(self, home: Home, port: int) -> Launch:
        """How to start the server on this port."""

    @abstractmethod
    def probe(self, home: Home, port: int) -> None:
        """Raise ProbeError unless the server of this home answers on this port."""


class Server:
    """A running server and the right to stop it. Use it as a context manager, or call `stop`.

    Unless it was started with `keep_running`, it is stopped at the latest when this process ends in an orderly way, or
    when the last one does of those that share it.
    """

    def __init__(self, kind: Kind, data_dir: Path, *, port: int | None = None, keep_running: bool = False) -> None:
        """Start the server of a data directory, or share the one that runs already.

        Args:
            kind: what to start.
            data_dir: an absolute path; made if need be.
            port: exactly this port; by default the one it had last, or the preferred one, or the next free one.
            keep_running: leave it running in the end. Who does so does not count among those who share it.

        Raises:
            DevServerError: it did not start; the message says why.
        """
        _make(data_dir)
        with locked(data_dir, seconds=LOCK_SECONDS):
            state = _find_or_start(kind, data_dir, port)
            self._use = None if keep_running else Use(data_dir)
        self.data_dir = data_dir
        """The directory that was given at the start."""
        self.version = state.version
        """The server's version, as its makers write it."""
        self.port = state.port
        """Its port on 127.0.0.1."""
        self._kind = kind
        self._state = state
        self._owner = os.getpid()
        if not keep_running:
            atexit.register(self._leave)

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.version} on {self.address}, pid {self.pid}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leave()

    @property
    def pid(self) -> int:
        """The process id of the server (of PostgreSQL, its postmaster)."""
        return self._state.pid

    @property
    def address(self) -> str:
        """`host:port`."""
        return f"{LOOPBACK}:{self.port}"

    def is_running(self) -> bool:
        """Whether this very process still runs."""
        return self._state.process.is_running()

    def stop(self) -> None:
        """Stop the server in an orderly way, by force if that takes too long, whoever shares it.

        Nothing happens if it has ended. Raises DevServerError if it cannot be ended at all.
        """
        with self._directory_locked():
            self._end_use()
            _end(self._kind, self._state.process)

    def kill(self) -> None:
        """Kill the server as a power cut would (SIGKILL), and wait until it is gone: for tests of what follows."""
        self._state.process.end(((signal.SIGKILL, KILL_SECONDS),))

    def remove(self) -> None:
        """Stop the server and delete its data directory, wherever its files are."""
        self.stop()
        shutil.rmtree(self._state.home, ignore_errors=True)
        shutil.rmtree(self.data_dir, ignore_errors=True)

    def _leave(self) -> None:
        if os.getpid() != self._owner or self._use is None:  # a forked child's, to be kept running, or left already
            return
        with self._directory_locked():
            if self._end_use():
                _end(self._kind, self._state.process)

    def _end_use(self) -> bool:
        """Use the server no longer; returns whether this was its last use."""
        atexit.unregister(self._leave)
        use, self._use = self._use, None
        return use is not None and os.getpid() == self._owner and use.end()

    def _directory_locked(self) -> AbstractContextManager[None]:
        return locked(self.data_dir, seconds=LOCK_SECONDS) if self.data_dir.exists() else nullcontext()


def _find_or_start(kind: Kind, data_dir: Path, port: int | None) -> ServerState:
    home = kind.home(data_dir)
    last = read_state(data_dir)
    if last is not None and last.process.is_running():
        if last.settings == kind.signature and port in (None, last.port) and _answers(kind, home, last):
            return last
        _end(kind, last.process)
    _end_strays(kind, data_dir, home)
    forget_users(data_dir)
    kind.prepare(home)
    _initialise(kind, home)
    return _start_anew(kind, data_dir, home, port=port, port_before=last.port if last else kind.preferred_port)


def _make(data_dir: Path) -> None:
    try:
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o755)  # the account that the server runs as must get through; its files are its own
    except FileExistsError:
        if not data_dir.is_dir():
            raise DevServerError(f"{data_dir} is a file: choose a directory") from None
    except OSError as error:
        raise DevServerError(f"{data_dir} cannot be made ({error.strerror}): choose a directory of yours") from error


def _initialise(kind: Kind, home: Home) -> None:
    """Make the home if there is none: beside its place, and moved there when it is whole."""
    for abandoned in home.path.parent.glob(f"{home.path.name}.new-*"):
        shutil.rmtree(abandoned, ignore_errors=True)
    if (home.path / kind.marker).exists():
        return
    if home.path.exists() and any(home.path.iterdir()):
        raise DevServerError(f"{home.path} is damaged, it has no {kind.marker}: delete it to begin anew")
    draft = Path(tempfile.mkdtemp(prefix=f"{home.path.name}.new-", dir=home.path.parent))
    try:
        kind.initialise(draft, home)
        draft.rename(home.path)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _answers(kind: Kind, home: Home, state: ServerState) -> bool:
    try:
        _wait_until_ready(kind, home, state.process, state.port, seconds=ADOPT_SECONDS)
    except ProbeError:
        return False
    return True


def _start_anew(kind: Kind, data_dir: Path, home: Home, *, port: int | None, port_before: int) -> ServerState:
    if port is not None and not is_free(port):
        raise DevServerError(f"{kind.title} cannot listen on port {port} of {LOOPBACK}: something else does")
    log = data_dir / kind.log_name
    logs.set_aside_if_large(log)
    taken: set[int] = set()
    while True:
        chosen = port or free_port(port_before, avoid=taken)
        written = logs.size(log)
        state = _spawn(kind, data_dir, home, chosen)
        try:
            _wait_until_ready(kind, home, state.process, chosen, seconds=START_SECONDS)
        except ProbeError as error:
            _end(kind, state.process)
            said = logs.tail(log, since=written)
            if kind.port_is_taken in said and port is None and len(taken) < PORT_ATTEMPTS:
                taken.add(chosen)  # by somebody who was faster
                continue
            raise DevServerError(f"{kind.title} did not start: {error}. The end of {log}:\n{said}") from error
        except BaseException:
            _end(kind, state.process)
            raise
        return state


def _spawn(kind: Kind, data_dir: Path, home: Home, port: int) -> ServerState:
    launch = kind.launch(home, port)

    def state_of(process: ServerProcess) -> ServerState:
        return ServerState(
            pid=process.pid,
            started=process.started,
            port=port,
            version=home.version,
            home=str(home.path),
            note=home.note,
            settings=dict(kind.signature),
        )

    process = spawn(
        launch.command,
        log=data_dir / kind.log_name,
        cwd=launch.cwd,
        env=launch.env,
        user=launch.user,
        announce=lambda process: write_state(data_dir, state_of(process)),
    )
    return state_of(process)


def _wait_until_ready(kind: Kind, home: Home, process: ServerProcess, port: int, *, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            kind.probe(home, port)
        except ProbeError as error:
            if time.monotonic() > deadline:
                raise ProbeError(f"no answer within {seconds:.0f} s ({error})") from error
        else:
            return
        if process.wait(POLL_SECONDS):
            raise ProbeError("it ended before it answered")


def _end(kind: Kind, process: ServerProcess) -> None:
    if not process.end(kind.stop_signals):
        raise DevServerError(f"{kind.title} (pid {process.pid}) does not end, not even when killed: end it by hand")


def _end_strays(kind: Kind, data_dir: Path, home: Home) -> None:
    """End what still works on the server's files though nothing is written down about it.

    PostgreSQL's sessions outlive a killed postmaster by a moment, and then leave by themselves.
    """
    for directory in (home.path, data_dir):
        for stray in running_in(directory, kind.program):
            if not stray.wait(STRAY_SECONDS):
                _end(kind, stray)
