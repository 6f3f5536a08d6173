"""PostgreSQL for development: started from packages, found again after a crash of whoever started it."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

from typing_extensions import override

from eventstore.devserver import postgres_probe, server
from eventstore.devserver.accounts import can_enter, reachable_binaries, reachable_home, server_account
from eventstore.devserver.binaries import default_postgres_binaries
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.ports import LOOPBACK
from eventstore.devserver.processes import run

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND_SECONDS = 120
PROBE_SECONDS = 5.0
BUILTIN_LOCALES_FROM = 17
INSTALL_ADVICE = "install 'pg-eventstore[dev]' again, or set EVENTSTORE_PG_BIN to the bin directory of a PostgreSQL"
# Each is tried until one works: PostgreSQL's own C.UTF-8 is since version 17, and not every libc has one.
LOCALES = (
    ("--locale=C.UTF-8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
    ("--locale=C.UTF-8",),
    ("--locale=C",),
)
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",  # a path below the data directory can be too long for a socket
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer(server.Server):
    """A PostgreSQL server on 127.0.0.1."""

    @property
    def dsn(self) -> str:
        """The superuser's address of the database `postgres`. There is no password: see `start_postgres`."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"


def start_postgres(
    data_dir: Path,
    *,
    port: int | None = None,
    settings: Mapping[str, str] | None = None,
    binaries: Path | None = None,
    keep_running: bool = False,
) -> PostgresServer:
    """Start PostgreSQL on a data directory, or share the one that runs there already.

    Whoever ends last of those who share it stops it. To ask for other settings or another port is to start it anew,
    under all of them.

    Whoever can connect to 127.0.0.1 is let in as any role without a password, as is the habit for development: this
    is no server for anything else. It is durable (fsync is on) unless `settings` says otherwise.

    Args:
        data_dir: made if need be; it holds the log and, unless root's server cannot get there, the database.
        port: exactly this port; by default 25432 or the next free one, and again the same at the next start.
        settings: server parameters beside the defaults, such as `{"fsync": "off"}`.
        binaries: the directory of `initdb` and `postgres`; by default `default_postgres_binaries()`.
        keep_running: leave the server running when this process or the `with` block ends; whoever shares it without
            this may stop it.

    Raises:
        DevServerError: it did not start; the message says why, with the end of the server's log.
    """
    kind = _Postgres(binaries or default_postgres_binaries(), settings or {})
    return PostgresServer(kind, data_dir.absolute(), port=port, keep_running=keep_running)


class _Postgres(server.Kind):
    title = "PostgreSQL"
    program = "postgres"
    preferred_port = 25_432
    log_name = "postgres.log"
    marker = "PG_VERSION"
    port_is_taken = "could not bind"
    # Fast shutdown: sessions are cut, what is open rolls back, a checkpoint is written. Then, should something not
    # give way, immediate shutdown: the next start recovers from the write-ahead log.
    stop_signals = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))

    def __init__(self, binaries: Path, settings: Mapping[str, str]) -> None:
        self._origin = binaries
        self._account = server_account()
        self._binaries = reachable_binaries(self._account, binaries)
        self._settings = {**SETTINGS, **settings}

    @property
    @override
    def signature(self) -> Mapping[str, str]:
        return {**self._settings, "binaries": str(self._origin)}

    @override
    def home(self, data_dir: Path) -> server.Home:
        version = self._version()
        if self._account is None or can_enter(self._account, data_dir):
            return server.Home(data_dir / "pgdata", version)
        note = f"{self._account.name}, whom PostgreSQL runs as for root, cannot enter {data_dir}"
        return server.Home(reachable_home(data_dir), version, note)

    @override
    def prepare(self, home: server.Home) -> None:
        version_file = home.path / self.marker
        if not version_file.exists():
            return
        found = version_file.read_text(encoding="ascii").strip()
        if found != str(_major(home.version)):
            raise DevServerError(
                f"{home.path} was made by PostgreSQL {found} and cannot be served by {home.version}: "
                f"use the programs of {found}, or delete it to begin anew"
            )
        _forget_reused_pid(home.path)

    @override
    def initialise(self, draft: Path, home: server.Home) -> None:
        if self._account is not None:
            os.chown(draft, self._account.uid, self._account.gid)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-instructions"]
        if self._settings.get("fsync") == "off":
            options.append("--no-sync")
        said = ""
        for locale in LOCALES:
            if len(locale) > 1 and _major(home.version) < BUILTIN_LOCALES_FROM:
                continue
            command = (self._binaries / "initdb", "-D", draft, *options, *locale)
            try:
                done = run(command, timeout=COMMAND_SECONDS, cwd=Path("/"), env=_environment(), user=self._account)
            except TimeoutExpired as error:
                raise DevServerError(f"initdb did not end within {COMMAND_SECONDS} s: is the disk busy?") from error
            if done.returncode == 0:
                return
            said = done.stdout.strip()
        raise DevServerError(f"initdb could not make a database in {draft.parent}:\n{said}")

    @override
    def launch(self, home: server.Home, port: int) -> server.Launch:
        settings = {**self._settings, "port": str(port)}
        options = (f"--{name}={value}" for name, value in settings.items())
        return server.Launch(
            command=(self._binaries / "postgres", "-D", home.path, *options),
            cwd=Path("/"),  # wherever we are, the account may not be allowed to be
            env=_environment(),
            user=self._account,
        )

    @override
    def probe(self, home: server.Home, port: int) -> None:
        served = Path(postgres_probe.ask(port, "SHOW data_directory", timeout=PROBE_SECONDS))
        if served.resolve() != home.path.resolve():
            raise server.ProbeError(f"port {port} answers for another data directory")

    def _version(self) -> str:
        program = self._binaries / "postgres"
        try:
            said = run([program, "--version"], timeout=COMMAND_SECONDS, env=_environment()).stdout
        except OSError as error:
            raise DevServerError(f"{program} cannot be run ({error.strerror}): {INSTALL_ADVICE}") from error
        version = re.search(r"\(PostgreSQL\) (\S+)", said)
        if version is None:
            raise DevServerError(f"{program} does not run here: {said.strip()}; {INSTALL_ADVICE}")
        return version[1]


def _forget_reused_pid(database: Path) -> None:
    """Remove the pid file of a killed server if its pid belongs to another program now (after a reboot, say).

    PostgreSQL would take that program for itself and not start. No server runs here: that has been looked after.
    """
    pid_file = database / "postmaster.pid"
    try:
        pid = int(pid_file.read_text(encoding="utf-8").partition("\n")[0])
        os.kill(pid, 0)
    except (OSError, ValueError):
        return
    pid_file.unlink()


def _major(version: str) -> int:
    """18 of `18.6`, 19 of `19beta1`."""
    digits = re.match(r"\d+", version)
    return int(digits[0]) if digits else 0


def _environment() -> dict[str, str]:
    """Our own without what would steer PostgreSQL past its arguments; messages in English, since logs are searched."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_"))} | {"LC_ALL": "C"}
