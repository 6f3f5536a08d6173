"""Files from Maven Central, each at exactly the coordinates and with exactly the bytes that a lock file names.

jgo fetches; nothing is resolved here, so that no repository can choose another version. A download is checked before
it gets its final name in the cache, and again each time it is used.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eventstore.devserver.cache import cache_dir
from eventstore.devserver.errors import DevServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from eventstore.devserver.reporting import Progress

MIRROR_VARIABLE = "EVENTSTORE_MAVEN"
ATTEMPTS = 3
CONNECTIONS = 6
TIMEOUT_SECONDS = 30
LOCK_FIELDS = 3
COORDINATES_WITH_CLASSIFIER = 4


@dataclass(frozen=True, slots=True)
class Artifact:
    """One jar: its Maven coordinates, and the bytes that it must have."""

    group: str
    name: str
    version: str
    classifier: str
    sha256: str
    size: int

    @property
    def coordinates(self) -> str:
        """`group:artifact:version`, with `:classifier` if there is one."""
        return ":".join(part for part in (self.group, self.name, self.version, self.classifier) if part)

    @property
    def file_name(self) -> str:
        """The file's name in any Maven repository."""
        return "-".join(part for part in (self.name, self.version, self.classifier) if part) + ".jar"

    @property
    def path(self) -> Path:
        """The file's path in any Maven repository."""
        return Path(*self.group.split("."), self.name, self.version, self.file_name)


def read_lock(path: Path) -> tuple[Artifact, ...]:
    """The artifacts of a lock file: a line each, `group:artifact:version[:classifier] sha256 bytes`."""
    lines = (line.partition("#")[0].split() for line in path.read_text(encoding="utf-8").splitlines())
    return tuple(_parse(fields, path) for fields in lines if fields)


def fetch(artifacts: Sequence[Artifact], *, title: str, progress: Progress) -> tuple[Path, ...]:
    """The artifacts' files, in order, in the cache; what is not there yet is downloaded.

    Safe for any number of processes at once, which at worst download twice. Raises DevServerError when a file cannot
    be had, or does not have the bytes that its lock names.
    """
    cache = cache_dir() / "maven"
    files = tuple(cache / artifact.path for artifact in artifacts)
    missing = [artifact for artifact, file in zip(artifacts, files, strict=True) if not _is_intact(artifact, file)]
    if missing:
        _download_all(missing, cache, title=title, progress=progress)
    return files


def file_sha256(file: Path) -> str:
    """The SHA-256 of a file's bytes, as hexadecimal text."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _parse(fields: Sequence[str], path: Path) -> Artifact:
    coordinates = fields[0].split(":")
    if len(fields) != LOCK_FIELDS or not LOCK_FIELDS <= len(coordinates) <= COORDINATES_WITH_CLASSIFIER:
        raise DevServerError(f"{path.name} is damaged: install pg-eventstore again")
    group, name, version, classifier = (*coordinates, "")[:COORDINATES_WITH_CLASSIFIER]
    return Artifact(group, name, version, classifier, sha256=fields[1], size=int(fields[2]))


def _is_intact(artifact: Artifact, file: Path) -> bool:
    try:
        return file_sha256(file) == artifact.sha256
    except FileNotFoundError:
        return False


def _download_all(artifacts: Sequence[Artifact], cache: Path, *, title: str, progress: Progress) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".incomplete-", dir=cache))
    try:
        with (
            progress.download(title, sum(artifact.size for artifact in artifacts)) as advance,
            ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="maven") as pool,
        ):
            downloads = [pool.submit(_download, artifact, draft, cache, advance) for artifact in artifacts]
            try:
                for download in downloads:
                    download.result()
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _download(artifact: Artifact, draft: Path, cache: Path, advance: Callable[[int], None]) -> None:
    """Download one artifact, check it, and move it to its place in one step."""
    failure: Exception | None = None
    for attempt in range(ATTEMPTS):
        received = 0

        def count(size: int) -> None:
            nonlocal received
            received += size
            advance(size)

        try:
            file = _download_once(artifact, draft / f"{artifact.file_name}-{attempt}", count)
        except Exception as error:  # noqa: BLE001 - jgo lets its HTTP library's errors through, and raises its own
            failure = error
            advance(-received)
            continue
        found = file_sha256(file)
        if found != artifact.sha256:
            raise DevServerError(
                f"refused {artifact.coordinates}: its SHA-256 is {found}, the lock file says {artifact.sha256}; "
                f"check the network, or the repository that {MIRROR_VARIABLE} names"
            )
        target = cache / artifact.path
        target.parent.mkdir(parents=True, exist_ok=True)
        file.replace(target)
        return
    raise DevServerError(
        f"{artifact.coordinates} cannot be downloaded from Maven Central ({type(failure).__name__}): check the "
        f"network, or set {MIRROR_VARIABLE} to a mirror's address"
    ) from failure


def _download_once(artifact: Artifact, repository: Path, count: Callable[[int], None]) -> Path:
    try:
        jgo = importlib.import_module("jgo.maven")
    except ImportError as error:
        raise DevServerError("jgo is not installed: pip install 'pg-eventstore[dev]'") from error

    @contextmanager
    def report(_file_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        yield count

    mirror = os.environ.get(MIRROR_VARIABLE)
    context = jgo.MavenContext(
        resolver=jgo.PythonResolver(progress_callback=report),
        repo_cache=repository,
        remote_repos={"mirror": mirror.rstrip("/")} if mirror else None,
        timeout=TIMEOUT_SECONDS,
    )
    component = context.project(artifact.group, artifact.name).at_version(artifact.version)
    return Path(component.artifact(artifact.classifier).resolve())
