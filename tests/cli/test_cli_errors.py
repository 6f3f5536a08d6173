"""Errors: one sentence and the next step, an exit status that means something, and no secret."""

from __future__ import annotations

import re
import signal

import pytest

from eventstore.cli.errors import printable, without_credentials
from eventstore.db.scripts import head_revision
from fixtures.cli_kit import EventstoreCommand, Sql, StartProcess

CLOSED = "postgresql://me:hunter2@127.0.0.1:1/shop"


def test_without_a_database_the_message_says_how_to_name_one(bare: EventstoreCommand) -> None:
    said = bare.fails(2, "streams")

    assert bare.fails_json(2, "streams")["error"] == "MissingSettingError"
    assert "EVENTSTORE_DSN" in said
    assert "`eventstore dev`" in said


def test_an_unreachable_database_is_3_because_a_retry_can_help(bare: EventstoreCommand) -> None:
    error = bare.fails_json(3, "--dsn", CLOSED, "streams")

    assert error["error"] == "NotConnectedError"
    assert error["retryable"] is True


def test_a_wrong_command_line_is_2(bare: EventstoreCommand) -> None:
    assert "No such option" in bare.fails(2, "streams", "--nope")
    assert "No such command" in bare.fails(2, "strems")


def test_a_wrong_command_line_is_told_to_machines_too(bare: EventstoreCommand) -> None:
    assert bare.fails_json(2, "streams", "--nope")["error"] == "UsageError"
    assert bare.fails_json(2, "--nope")["error"] == "UsageError"


@pytest.mark.parametrize(
    "arguments", [["streams", "--nope"], ["--nope"], ["read"], ["replay", "order-1", "--at", "noon"]]
)
def test_every_error_tells_machines_whether_a_retry_can_help(arguments: list[str], bare: EventstoreCommand) -> None:
    assert bare.fails_json(2, *arguments)["retryable"] is False


@pytest.mark.parametrize(
    "arguments",
    [
        ["streams", "--dsn", "mysql://me:hunter2@host/shop"],
        ["streams", "--dsn", "postgresql://me:hunter2@host:port/shop"],
        ["migrate", "--dsn", "postgresql://me:hunter2@host:port/shop"],
        ["streams", "--schema", "pg_mine"],
        ["migrate", "--sql", "--schema", 'x"y'],
        ["replay", "order-1", "--app", "nosuch:app"],
        ["replay", "order-1", "--app", "json:dumps"],
        ["replay", "nosuch-1"],
        ["snapshot", "nosuch-1"],
        ["snapshot", "--category", "nosuch"],
        ["project", "nosuch"],
        ["project", "totals"],
        ["rebuild", "nosuch"],
        ["publish", "nosuch"],
        ["publish", "--kafka", "garbage"],
        ["project", "--from", "kafka", "--kafka", "me:hunter2@broker:9092"],
    ],
)
def test_a_name_on_the_command_line_that_names_nothing_is_2_and_no_retry_helps(
    arguments: list[str], es: EventstoreCommand
) -> None:
    error = es.fails_json(2, *arguments)

    assert error["retryable"] is False
    assert "hunter2" not in str(error)


def test_a_name_in_a_variable_that_names_nothing_is_2_too(es: EventstoreCommand, settings: pytest.MonkeyPatch) -> None:
    for name, value, command in (
        ("EVENTSTORE_KAFKA", "garbage", ["publish"]),
        ("EVENTSTORE_SCHEMA", "pg_mine", ["streams"]),
        ("EVENTSTORE_APP", "nosuch:app", ["replay", "order-1"]),
        ("EVENTSTORE_DSN", "postgresql://host:port/shop", ["streams"]),
    ):
        with settings.context() as changed:
            changed.setenv(name, value)
            es.fails(2, *command)


@pytest.mark.parametrize("password", ["hun/ter2", "hun#ter2", "hun?ter2", "hun[ter2"])
@pytest.mark.parametrize("command", ["streams", "migrate"])
def test_a_password_that_breaks_its_address_is_told_how_to_write_it(
    command: str, password: str, bare: EventstoreCommand
) -> None:
    said = bare.fails(2, command, "--dsn", f"postgresql://me:{password}@127.0.0.1:1/shop")

    assert "percent-encoded" in said
    assert not {"hun", "ter2"} & set(re.findall(r"\w+", said))


def test_a_wrong_stream_id_is_2(es: EventstoreCommand) -> None:
    said = es.fails(2, "read", "order")

    assert said.startswith("error: invalid stream id 'order': there is no '-' between category and key; use")


def test_a_missing_stream_is_5(es: EventstoreCommand) -> None:
    for command in ("read", "replay", "snapshot"):
        error = es.fails_json(5, command, "order-9")
        assert error["error"] == "NotFoundError"
        assert error["stream_id"] == "order-9"
        assert "`eventstore streams`" in error["message"]


def test_a_conflict_is_4_and_its_facts_come_as_json(placed: EventstoreCommand) -> None:
    event = '{"type": "OrderShipped", "data": {"carrier": "ups"}}'

    error = placed.fails_json(4, "append", "order-1", "--expected-version", "2", stdin=event)

    assert error == {
        "error": "WrongExpectedVersionError",
        "message": "'order-1' is at version 3, not at the expected 2: nothing was appended; load it again and decide "
        "again",
        "stream_id": "order-1",
        "expected": 2,
        "actual": 3,
        "retryable": True,
    }


@pytest.mark.parametrize("command", [["streams"], ["read", "--all"], ["replay", "order-1"], ["status"], ["snapshot"]])
def test_a_schema_that_was_never_made_is_refused_with_the_command_that_makes_it(
    command: list[str], bare: EventstoreCommand, empty_dsn: str
) -> None:
    said = bare.fails(1, *command, "--dsn", empty_dsn)

    assert "has not been created" in said
    assert "run `eventstore migrate`" in said


def test_an_older_schema_is_refused_with_the_command_that_mends_it(es: EventstoreCommand, sql: Sql) -> None:
    sql("UPDATE eventstore.alembic_version SET version_num = '0001'")

    assert "is at revision 0001, this version needs" in (said := es.fails(1, "streams"))
    assert "run `eventstore migrate`" in said


def test_a_newer_schema_is_refused_with_the_command_that_mends_it(es: EventstoreCommand, sql: Sql) -> None:
    sql("UPDATE eventstore.alembic_version SET version_num = '9999'")

    for command in ("streams", "migrate", "status"):
        error = es.fails_json(1, command)
        assert (error["error"], error["found"], error["needed"]) == ("SchemaTooNewError", "9999", head_revision())
        assert "pip install --upgrade pg-eventstore" in error["message"]


@pytest.mark.parametrize(
    "dsn",
    [
        CLOSED,
        "postgresql://me:hunter2@[::1/shop",
        "postgresql://me:hunter2@host:port/shop",
        "postgres//me:hunter2@host/shop",
        "postgresql://me:hun/ter2hunter2@127.0.0.1:1/shop",
        "postgresql://me:hunter2@127.0.0.1:1/shop?sslmode=nonsense",
    ],
)
def test_a_password_is_never_shown(dsn: str, bare: EventstoreCommand, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("EVENTSTORE_DEBUG", "0")
    for arguments in (["--dsn", dsn, "status"], ["migrate", "--dsn", dsn], ["streams", f"--dsn={dsn}", "--json"]):
        result = bare(*arguments)
        assert result.exit_code in {2, 3}
        assert "hunter2" not in result.output


@pytest.mark.parametrize(
    "arguments",
    [
        ["postgresql://me:hunter2@host/shop"],
        ["streams", "postgresql://me:hunter2@host/shop"],
        ["read", "postgresql://me:hunter2@host/shop"],
        ["--app", "postgresql://me:hunter2@host/shop", "replay", "order-1"],
        ["streams", "--json", "--limit", "postgresql://me:hunter2@host/shop"],
    ],
)
def test_a_password_in_the_wrong_place_is_not_echoed(arguments: list[str], bare: EventstoreCommand) -> None:
    result = bare(*arguments)

    assert result.exit_code == 2
    assert "hunter2" not in result.output


def test_credentials_are_masked_however_they_are_written() -> None:
    assert without_credentials("at postgresql://me:hun@ter2@host/db") == "at postgresql://***@host/db"


def test_a_defect_is_70_without_a_traceback_and_debug_shows_it(
    es: EventstoreCommand, settings: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a secret")

    settings.setattr("eventstore.cli.logs._list_streams", broken)
    said = es.fails(70, "streams")
    settings.setenv("EVENTSTORE_DEBUG", "1")
    debugged = es("streams")

    assert "unexpected RuntimeError at test_cli_errors.py" in said
    assert "EVENTSTORE_DEBUG=1" in said
    assert "a secret" not in said
    assert debugged.exit_code == 70
    assert "Traceback" in debugged.stderr


def test_help_documents_every_exit_status_and_variable(bare: EventstoreCommand) -> None:
    shown = bare.ok("--help")

    for word in (
        "0 done",
        "3 unavailable",
        "4 conflict",
        "5 not found",
        "130",
        "EVENTSTORE_DSN",
        "EVENTSTORE_PGBOUNCER",
    ):
        assert word in " ".join(shown.split())


@pytest.mark.parametrize(
    "command",
    [
        "migrate",
        "dev",
        "streams",
        "read",
        "append",
        "replay",
        "snapshot",
        "publish",
        "project",
        "rebuild",
        "status",
    ],
)
def test_every_command_has_help_that_needs_nothing(command: str, bare: EventstoreCommand) -> None:
    assert f"eventstore {command}" in bare.ok(command, "--help")


def test_the_version_is_shown(bare: EventstoreCommand) -> None:
    assert bare.ok("--version").startswith("eventstore ")


def test_global_options_are_taken_before_and_after_the_command(es: EventstoreCommand, dsn: str) -> None:
    assert es.ok("--json", "--schema", "eventstore", "streams") == "[]\n"
    assert es.ok("streams", f"--dsn={dsn}", "--schema", "eventstore", "--json") == "[]\n"


@pytest.mark.usefixtures("placed")
def test_an_interrupted_command_ends_with_130(sql: Sql, start: StartProcess) -> None:
    sql("INSERT INTO eventstore.leases VALUES ('rebuild:sales@1', 'somebody', 1, now() + interval '1 hour')")
    process = start("rebuild", "sales")
    while not sql("SELECT 1 FROM eventstore.read_models WHERE name = 'sales@1'"):
        pass  # it makes the read model's tables, then waits for the lease

    process.signal(signal.SIGINT)

    assert process.end() == (130, "", "")


def test_output_whose_reader_has_gone_ends_quietly(placed: EventstoreCommand, start: StartProcess) -> None:
    process = start("read", "--all", "--follow")
    process.line()
    process.close_stdout()

    placed.ok(
        "append", "order-1", "--expected-version", "any", stdin='{"type": "OrderShipped", "data": {"carrier": ""}}'
    )

    code, _, stderr = process.end()
    assert (code, stderr) == (141, "")


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("\x1b[2Jtea\x9b") == "\\x1b[2Jtea\\x9b"
    assert printable("Käse → 茶") == "Käse → 茶"
