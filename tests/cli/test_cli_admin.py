"""`migrate` and `dev`."""

from __future__ import annotations

import json
import shutil
import signal
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventstore.db.scripts import head_revision
from eventstore.devserver.removal import remove_servers
from eventstore.devserver.state import read_state
from fixtures.cli_kit import EventstoreCommand, StartProcess, run_script


@pytest.fixture
def fresh(bare: EventstoreCommand, settings: pytest.MonkeyPatch, empty_dsn: str) -> EventstoreCommand:
    """The command with a database in which nothing was ever made."""
    settings.setenv("EVENTSTORE_DSN", empty_dsn)
    return bare


def test_migrating_creates_the_schema_and_says_so(fresh: EventstoreCommand) -> None:
    assert fresh.ok("migrate") == f"the schema 'eventstore' was created at revision {head_revision()}\n"
    assert (
        fresh.ok("migrate") == f"the schema 'eventstore' is at revision {head_revision()}, the newest: nothing to do\n"
    )
    assert fresh.json("streams") == []


def test_migrating_tells_machines_from_where_to_where(fresh: EventstoreCommand) -> None:
    assert fresh.json("migrate", "--schema", "shop") == {
        "schema": "shop",
        "from_revision": None,
        "to_revision": head_revision(),
    }
    assert fresh.json("status", "--schema", "shop")["schema"]["name"] == "shop"


def test_a_schema_is_checked_without_changing_it(fresh: EventstoreCommand) -> None:
    assert fresh.fails_json(1, "migrate", "--check")["error"] == "MissingMigrationError"
    fresh.ok("migrate")
    assert fresh.json("migrate", "--check")["to_revision"] == head_revision()


def test_the_sql_of_the_migrations_makes_the_same_schema(fresh: EventstoreCommand, empty_dsn: str) -> None:
    script = fresh.ok("migrate", "--sql")
    run_script(empty_dsn, script)

    assert fresh.json("migrate", "--check")["from_revision"] == head_revision()
    fresh.ok(
        "append", "order-1", "--expected-version", "none", stdin='{"type": "OrderShipped", "data": {"carrier": "x"}}'
    )


def test_a_schema_name_that_is_none_is_refused(fresh: EventstoreCommand) -> None:
    for options in ([], ["--sql"], ["--check"]):
        assert "cannot name a schema" in fresh.fails(2, "migrate", "--schema", 'x"y', *options)


def test_a_role_that_may_not_create_the_schema_gets_a_typed_error(fresh: EventstoreCommand, empty_dsn: str) -> None:
    role = f"cli_nobody_{uuid.uuid4().hex}"
    dsn = empty_dsn.replace("postgresql://postgres@", f"postgresql://{role}@")
    if dsn == empty_dsn:
        pytest.skip("only where roles connect without a password")
    run_script(empty_dsn, f"CREATE ROLE {role} LOGIN")
    try:
        said = fresh.fails(1, "migrate", "--dsn", dsn)
    finally:
        run_script(empty_dsn, f"DROP ROLE {role}")

    assert "permission denied" in said


# --- dev -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A directory that every account can enter, whose servers are gone after the test."""
    directory = Path(tempfile.mkdtemp(prefix="eventstore-cli-"))
    directory.chmod(0o755)
    yield directory / "data"
    remove_servers(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_dev_serves_a_migrated_database_until_a_signal(
    number: signal.Signals, data_dir: Path, bare: EventstoreCommand, start: StartProcess
) -> None:
    process = start("dev", "--no-kafka", "--data-dir", str(data_dir))
    export, _, dsn = process.line().strip().partition("=")

    assert export == "export EVENTSTORE_DSN"
    assert bare.json("streams", "--dsn", dsn) == []
    server = read_state(data_dir / "postgres")
    assert server is not None
    assert server.process.is_running()
    process.signal(number)

    code, stdout, stderr = process.end()
    assert (code, stdout) == (0, "")
    assert "running; Ctrl-C stops" in stderr
    assert "Traceback" not in stderr
    assert not server.process.is_running()


@pytest.mark.usefixtures("settings")
def test_dev_tells_machines_the_addresses(data_dir: Path, start: StartProcess) -> None:
    process = start("dev", "--no-kafka", "--data-dir", str(data_dir), "--json")
    told = json.loads(process.line())
    process.signal(signal.SIGTERM)

    assert told["dsn"].startswith("postgresql://")
    assert told["no_kafka_because"] == "--no-kafka was passed"
    assert (told["kafka"], told["schema"], told["revision"]) == (None, "eventstore", head_revision())
    assert process.end() == (0, "", "")


def test_dev_does_not_show_an_address_that_it_was_given(
    dsn: str, settings: pytest.MonkeyPatch, start: StartProcess
) -> None:
    settings.setenv("EVENTSTORE_POSTGRES", dsn)
    process = start("dev", "--no-kafka")

    assert process.line() == 'export EVENTSTORE_DSN="$EVENTSTORE_POSTGRES"\n'
    process.signal(signal.SIGINT)
    assert process.end()[0] == 0


def test_dev_says_what_is_wrong_with_a_setting(bare: EventstoreCommand, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("EVENTSTORE_POSTGRES", "mysql")

    assert "EVENTSTORE_POSTGRES must be" in bare.fails(2, "dev")
