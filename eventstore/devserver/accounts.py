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
from typing import TYPE_CHECKING

from eventstore.devserver.errors import DevServerError
from eventstore.devserver.processes import OsUser, run

if TYPE_CHECKING:
    from collections.abc import Sequence

UNPRIVILEGED = ("postgres", "nobody")
REACHABLE_BASE = Path("/var/tmp")  # noqa: S108 - `_private_directory` checks who owns what is there
CHECK_SECONDS = 30


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
    return _private_directory() / f"{wanted.name}-{_fingerprint(bytes(wanted.resolve()))}"


def reachable_binaries(account: OsUser | None, bin_dir: Path) -> Path:
    """PostgreSQL's programs where the account can run them: `bin_dir` itself, or that of a copy in /var/tmp.

    Raises DevServerError when the account can run neither.
    """
    if account is None or _can_run(account, bin_dir):
        return bin_dir
    root, parts = _movable_parts(bin_dir)
    # Named by what is in it: every checkout that brings the same PostgreSQL shares one copy.
    copy = _private_directory() / f"postgres-{_fingerprint((bin_dir / 'postgres').read_bytes())}"
    if parts and not copy.exists():
        _copy_for_everybody(root, parts, copy)
    copied = copy / bin_dir.relative_to(root)
    if not parts or not _can_run(account, copied):
        raise DevServerError(
            f"{account.name}, whom PostgreSQL runs as for root, cannot run the programs in {bin_dir}: "
            "let everybody read and enter that directory, or start as another user"
        )
    return copied


def _movable_parts(bin_dir: Path) -> tuple[Path, tuple[Path, ...]]:
    """A directory, and what below it the programs need to run from a copy; nothing if they cannot be copied.

    The programs look for the rest of themselves, and for the libraries that a wheel has beside its package, along
    relative paths. A PostgreSQL that was built for its place has its share directory elsewhere.
    """
    installation = bin_dir.parent
    if not any((installation / "share").rglob("postgres.bki")):
        return installation, ()
    parts = (bin_dir, installation / "lib", installation / "share")
    libraries = installation.parent.with_name(f"{installation.parent.name}.libs")
    return (libraries.parent, (*parts, libraries)) if libraries.is_dir() else (installation, parts)


def _copy_for_everybody(root: Path, parts: Sequence[Path], copy: Path) -> None:
    """Copy parts of a directory in one step, so that everybody can read them and run what can be run."""
    draft = Path(tempfile.mkdtemp(prefix=f"{copy.name}-", dir=copy.parent))
    try:
        for part in parts:
            shutil.copytree(part, draft / part.relative_to(root), symlinks=True)
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


def _can_run(account: OsUser, bin_dir: Path) -> bool:
    try:
        tried = [
            run([bin_dir / program, "--version"], timeout=CHECK_SECONDS, cwd=Path("/"), user=account)
            for program in ("initdb", "postgres")
        ]
    except PermissionError:
        return False
    return all(done.returncode == 0 for done in tried)


def _fingerprint(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
