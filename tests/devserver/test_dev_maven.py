"""Downloads are exactly the bytes that a lock file names, or none."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING

import pytest
from typing_extensions import override

from eventstore.devserver import DevServerError, SilentProgress, postgres_binaries
from eventstore.devserver.binaries import BIN_VARIABLE, default_postgres_binaries
from eventstore.devserver.locks import KAFKA_LOCK, POSTGRES_15_LOCK
from eventstore.devserver.maven import Artifact, fetch, read_lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytest.importorskip("jgo")

CONTENT = b"the bytes of a jar" * 1000
UNREACHABLE = "http://127.0.0.1:9"


class QuietHandler(SimpleHTTPRequestHandler):
    @override
    def log_message(self, format: str, *args: object) -> None:
        pass


class CountingProgress(SilentProgress):
    def __init__(self) -> None:
        self.received = 0

    @override
    @contextmanager
    def download(self, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
        assert (title, total_bytes) == ("jars", len(CONTENT))

        def advance(count: int) -> None:
            self.received += count

        yield advance


@pytest.fixture
def artifact() -> Artifact:
    return Artifact("org.example", "thing", "1.0", "", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def repository(
    tmp_path: Path,
    artifact: Artifact,
    cache: Path,  # noqa: ARG001 - a fixture can ask for another one only as an argument
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Path]:
    """A Maven repository with the artifact in it; its file there."""
    root = tmp_path / "repository"
    file = root / artifact.path
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=root)) as httpd:
        thread = Thread(target=httpd.serve_forever)
        thread.start()
        monkeypatch.setenv("EVENTSTORE_MAVEN", f"http://127.0.0.1:{httpd.server_port}")
        yield file
        httpd.shutdown()
        thread.join()


def _fetch(artifact: Artifact) -> Path:
    (file,) = fetch([artifact], title="jars", progress=SilentProgress())
    return file


@pytest.mark.usefixtures("repository")
def test_a_download_is_reported_and_kept(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = CountingProgress()
    (file,) = fetch([artifact], title="jars", progress=progress)
    assert file.read_bytes() == CONTENT
    assert progress.received == len(CONTENT)
    monkeypatch.setenv("EVENTSTORE_MAVEN", UNREACHABLE)
    assert _fetch(artifact) == file


def test_a_download_with_another_checksum_is_refused_and_not_kept(
    repository: Path, artifact: Artifact, cache: Path
) -> None:
    repository.write_bytes(CONTENT.replace(b"jar", b"car"))
    with pytest.raises(DevServerError, match=r"refused org\.example:thing:1\.0: its SHA-256 is"):
        _fetch(artifact)
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("repository")
def test_a_damaged_file_in_the_cache_is_fetched_again(artifact: Artifact) -> None:
    _fetch(artifact).write_bytes(b"damaged")
    assert _fetch(artifact).read_bytes() == CONTENT


@pytest.mark.usefixtures("cache")
def test_without_a_network_the_error_names_the_artifact_and_the_way_out(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVENTSTORE_MAVEN", UNREACHABLE)
    with pytest.raises(DevServerError, match=r"org\.example:thing:1\.0 cannot be downloaded.*EVENTSTORE_MAVEN"):
        _fetch(artifact)


def test_a_cache_that_cannot_be_made_is_an_error_with_advice(
    artifact: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EVENTSTORE_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(DevServerError, match="set EVENTSTORE_CACHE to a directory"):
        _fetch(artifact)


@pytest.mark.parametrize("lock", [KAFKA_LOCK, POSTGRES_15_LOCK], ids=lambda lock: lock.name)
def test_every_line_of_a_lock_file_pins_coordinates_and_bytes(lock: Path) -> None:
    artifacts = read_lock(lock)
    assert artifacts
    assert all(len(bytes.fromhex(artifact.sha256)) == 32 and artifact.size > 0 for artifact in artifacts)
    assert "://" not in lock.read_text()


def test_all_of_kafka_is_of_one_version() -> None:
    assert len({artifact.version for artifact in read_lock(KAFKA_LOCK) if artifact.group == "org.apache.kafka"}) == 1


def test_a_damaged_lock_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "some.lock").write_text("org.example:thing 00\n")
    with pytest.raises(DevServerError, match=r"some\.lock is damaged"):
        read_lock(tmp_path / "some.lock")


def test_the_machines_own_postgres_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for program in ("initdb", "postgres"):
        (tmp_path / program).touch()
    monkeypatch.setenv(BIN_VARIABLE, str(tmp_path))
    assert default_postgres_binaries() == tmp_path
    (tmp_path / "initdb").unlink()
    with pytest.raises(DevServerError, match="which has no initdb"):
        default_postgres_binaries()


def test_postgres_15_is_unpacked_once(cache: Path) -> None:
    try:
        programs = postgres_binaries(15)
    except DevServerError as error:
        pytest.skip(str(error))
    made = programs.stat().st_mtime_ns
    assert (programs / "initdb").is_file()
    assert postgres_binaries(15) == programs
    assert programs.stat().st_mtime_ns == made
    assert not list(cache.glob(".postgres*"))
