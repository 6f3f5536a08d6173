"""Which operating-system account PostgreSQL runs as, and files where that account can get at them.

PostgreSQL refuses to run as root, which is what containers usually are. No directory of anybody else is ever changed:
what the account cannot reach is copied, or placed, below a directory of ours in /var/tmp.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path

from eventstore.devserver.errors import DevServerError
from eventstore.devserver.processes import OsUser, run

UNPRIVILEGED = ("postgres", "nobody")
REACHABLE_BASE = Path("/var/tmp")  # noqa: S108 - `_private_directory` checks who owns what is there
CHECK_SECONDS = 30
INSTALLATION = ("bin", "lib", "share")


def server_account() -> OsUser | None:
    """The account to run PostgreSQL as; None when we are not root and it is simply ours.

    Raises DevServerError when root has no unprivileged account to use.
    """
    if os.geteuid() != 0:
        return None
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid != 0:
            return OsUser(name, entry.pw_uid, entry.pw_gid)
    raise DevServerError(
        "PostgreSQL does not run as root, and there is neither an account 'postgres' nor 'nobody': "
        "add one (useradd --system postgres), or start as another user"
    )


def can_enter(account: OsUser | None, directory: Path) -> bool:
    """Whether the account can work below a directory; asked of the kernel, which knows about access lists too."""
    if account is None:
        return True
    entered = run(["/bin/sh", "-c", 'cd -- "$0"', directory], timeout=CHECK_SECONDS, cwd=Path("/"), user=account)
    return entered.returncode == 0


def reachable_home(wanted: Path) -> Path:
    """A directory in /var/tmp that stands for `wanted`, always the same one."""
    return _private_directory() / f"{wanted.name}-{_fingerprint(str(wanted.resolve()))}"


def reachable_binaries(account: OsUser | None, bin_dir: Path) -> Path:
    """PostgreSQL's programs where the account can run them: `bin_dir` itself, or that of a copy in /var/tmp.

    Raises DevServerError when the account can run neither.
    """
    if account is None or _can_run(account, bin_dir / "postgres"):
        return bin_dir
    installation = bin_dir.parent
    if not any((installation / "share").rglob("postgres.bki")):
        raise DevServerError(
            f"{account.name}, whom PostgreSQL runs as for root, cannot run the programs in {bin_dir}: "
            "let everybody read and enter that directory, or start as another user"
        )
    made = (bin_dir / "postgres").stat()
    copy = _private_directory() / f"postgres-{_fingerprint(f'{installation} {made.st_size} {made.st_mtime_ns}')}"
    if not copy.exists():
        _copy_for_everybody(installation, copy)
    return copy / bin_dir.name


def _copy_for_everybody(installation: Path, copy: Path) -> None:
    """Copy what PostgreSQL needs to run, in one step, so that everybody can run it."""
    draft = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
    try:
        for part in INSTALLATION:
            shutil.copytree(installation / part, draft / part, symlinks=True, ignore=shutil.ignore_patterns("doc"))
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o444 | (0o111 if mode & 0o100 else 0))
        draft.rename(copy)
    except OSError:
        if not copy.exists():  # else somebody else's copy was ready first, and is as good
            raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _private_directory() -> Path:
    """Our directory in /var/tmp: owned by root, writable by nobody else, and not a link that somebody laid there."""
    directory = REACHABLE_BASE / "pg-eventstore-root"
    try:
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)  # whatever the umask left of it
    except FileExistsError:
        found = directory.lstat()
        writable_by_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != 0 or writable_by_others:
            raise DevServerError(
                f"{directory} is not a directory that only root can write to: remove it and start again"
            ) from None
    return directory


def _can_run(account: OsUser, program: Path) -> bool:
    try:
        return run([program, "--version"], timeout=CHECK_SECONDS, cwd=Path("/"), user=account).returncode == 0
    except PermissionError:
        return False


def _fingerprint(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
