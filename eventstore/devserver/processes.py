"""Server processes that outlive us: told apart by pid and start time, waited for by the kernel's own notice.

A pid alone is not enough, because the kernel hands it out again.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

POLL_SECONDS = 0.02
# The server is exec'ed only when we have written down its pid, so that there is no instant at which we can be killed
# and leave behind a server that nobody finds again. When we die before that, `read` meets the end of the pipe.
HELD_BACK = 'read -r go && exec "$0" "$@" </dev/null'


@dataclass(frozen=True, slots=True)
class OsUser:
    """The operating-system account that a server runs as."""

    name: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ServerProcess:
    """A process, identified for ever: by its pid and by when it was started (text that only compares)."""

    pid: int
    started: str

    def is_running(self) -> bool:
        """Whether it still runs. One that has ended but was not reaped yet does not run."""
        _reap(self.pid)
        return _start_time(self.pid, zombies=False) == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if we may; nothing happens if the process has ended and another one has its pid now."""
        with suppress(ProcessLookupError, PermissionError):
            if not hasattr(os, "pidfd_open"):
                if self.is_running():
                    os.kill(self.pid, number)
                return
            handle = os.pidfd_open(self.pid)
            try:
                if self.is_running():
                    signal.pidfd_send_signal(handle, number)
            finally:
                os.close(handle)

    def wait(self, seconds: float) -> bool:
        """Wait until it has ended, at most so long; whether it has."""
        deadline = time.monotonic() + seconds
        while self.is_running():
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return False
            self._wait_for_notice(remaining)
        return True

    def end(self, escalation: Sequence[tuple[signal.Signals, float]]) -> bool:
        """Send each signal and wait for its seconds until the process has ended; whether it has."""
        for number, seconds in escalation:
            self.send(number)
            if self.wait(seconds):
                return True
        return False

    def _wait_for_notice(self, seconds: float) -> None:
        if not hasattr(os, "pidfd_open"):
            time.sleep(min(seconds, POLL_SECONDS))
            return
        try:
            handle = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.is_running():
                poll = select.poll()
                poll.register(handle, select.POLLIN)
                poll.poll(seconds * 1000)
        finally:
            os.close(handle)


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    cwd: Path,
    env: Mapping[str, str],
    user: OsUser | None,
    announce: Callable[[ServerProcess], None],
) -> ServerProcess:
    """Start a server in a session of its own, with its output appended to `log`.

    `announce` is called with the process before the server's program begins: what it writes down is there whenever
    the server is. The session keeps a terminal's Ctrl-C away from the server, so that whoever started it can stop
    things in order.
    """
    with log.open("ab") as output:
        child = subprocess.Popen(  # noqa: S603 - our own programs, no shell's text
            ["/bin/sh", "-c", HELD_BACK, *command],
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env=env,
            start_new_session=True,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=[] if user else None,
        )
    process = ServerProcess(child.pid, _start_time(child.pid, zombies=True) or "")
    # From here on the process is known by its identity, as it is to whoever finds it after us; Popen would complain
    # that a server is still running which is meant to.
    child.returncode = 0
    with suppress(BrokenPipeError), cast("IO[bytes]", child.stdin) as held_back:
        announce(process)
        held_back.write(b"go\n")
    return process


def run(
    command: Sequence[str | Path],
    *,
    timeout: float,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    user: OsUser | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, as another account if one is given, with both outputs in `stdout`.

    Raises subprocess.TimeoutExpired after `timeout` seconds, OSError when it cannot be run at all.
    """
    return subprocess.run(  # noqa: S603 - our own programs, no shell's text
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout,
        cwd=cwd,
        env=env,
        start_new_session=True,
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=[] if user else None,
    )


def _start_time(pid: int, *, zombies: bool) -> str | None:
    """When a process was started, as text that no other process with its pid ever has; None if there is none."""
    if not Path("/proc/self/stat").exists():
        listed = run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], timeout=10)
        return listed.stdout.strip() or None
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    # After the name, which is in parentheses and can hold anything: the state first, the start in ticks the 20th.
    fields = stat.rpartition(")")[2].split()
    if fields[0] in "ZX" and not zombies:
        return None
    return f"{_boot()}/{fields[19]}"


def _boot() -> str:
    """Which start of this machine it is, since ticks begin anew with each; empty where the kernel does not say."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return ""


def _reap(pid: int) -> None:
    """Let the kernel forget a child of ours that has ended; nothing happens for anybody else's."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def running_in(directory: Path, program: str) -> tuple[ServerProcess, ...]:
    """The processes that run a program of this base name with `directory` as their working directory.

    Only Linux can tell, and only about processes that are ours or, to root, anybody's: else it is none.
    """
    found: list[ServerProcess] = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            is_there = (entry / "cwd").readlink() == directory and (entry / "exe").readlink().name == program
        except OSError:
            continue
        started = _start_time(int(entry.name), zombies=False) if is_there else None
        if started is not None:
            found.append(ServerProcess(int(entry.name), started))
    return tuple(found)
