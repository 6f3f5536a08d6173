"""`status`: positions, lags, leases, and who holds the log back."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from eventstore.db.scripts import head_revision
from fixtures.cli_kit import EventstoreCommand, Sql
from fixtures.raw_append import ONE_EVENT


@contextmanager
def open_append(dsn: str, stream: str) -> Iterator[int]:
    """Append to a stream in a transaction that stays open; yields the pid of its session."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(dsn, server_settings={"application_name": "slow-importer"}))
        try:
            runner.run(connection.execute("BEGIN"))
            runner.run(connection.fetch(ONE_EVENT, stream, 0, "X", 1, "{}"))
            yield connection.get_server_pid()
        finally:
            runner.run(connection.close())


def test_an_empty_store_has_a_status(es: EventstoreCommand) -> None:
    status = es.json("status")

    assert status["schema"] == {"name": "eventstore", "revision": head_revision()}
    assert status["log"] == {
        "last_position": 0,
        "last_recorded_at": None,
        "high_water": 0,
        "last_drawn": 0,
        "held_back_by": [],
    }
    assert status["sizes"]["events"]["rows"] == 0
    assert (status["leases"], status["kafka_readers"]) == ([], [])


def test_positions_and_lags_are_shown_also_of_readers_that_never_ran(placed: EventstoreCommand) -> None:
    placed.ok("rebuild", "sales")
    placed.ok(
        "append", "order-1", "--expected-version", "any", stdin='{"type": "OrderShipped", "data": {"carrier": "x"}}'
    )

    status = placed.json("status")

    assert status["log"]["last_position"] == status["log"]["high_water"] == 5
    assert {reader["name"]: (reader["position"], reader["lag"]) for reader in status["followers"]} == {
        "fragile@1": (0, 5),
        "publisher:orders": (0, 5),
        "sales@1": (4, 1),
        "snapshots:shop": (0, 5),
    }
    assert [(model["name"], model["generation"]) for model in status["read_models"]] == [
        ("sales@1", 2),
        ("totals@1", 1),
    ]


def test_rows_are_counted_until_the_planner_knows_them(placed: EventstoreCommand, sql: Sql) -> None:
    counted = placed.json("status")["sizes"]
    sql("ANALYZE eventstore.events")
    estimated = placed.json("status")["sizes"]

    assert counted["events"]["rows"] == estimated["events"]["rows"] == 4
    assert counted["streams"]["rows"] == 2
    assert counted["events"]["bytes"] > 0


def test_leases_are_shown_with_their_owner(es: EventstoreCommand, sql: Sql) -> None:
    sql("INSERT INTO eventstore.leases VALUES ('projection:sales@1', 'host:7:ab', 3, now() + interval '1 hour')")

    [lease] = es.json("status")["leases"]

    assert (lease["name"], lease["owner"], lease["epoch"]) == ("projection:sales@1", "host:7:ab", 3)
    assert 3_500 < lease["seconds_left"] <= 3_600
    assert "host:7:ab" in es.ok("status")


def test_the_session_that_holds_readers_back_is_named(placed: EventstoreCommand, dsn: str) -> None:
    with open_append(dsn, "order-8") as pid:
        placed.ok(
            "append",
            "order-9",
            "--expected-version",
            "none",
            stdin='{"type": "OrderShipped", "data": {"carrier": "x"}}',
        )
        log = placed.json("status")["log"]
        shown = placed.ok("status")

    assert (log["last_position"], log["high_water"], log["last_drawn"]) == (6, 4, 6)
    [holder] = log["held_back_by"]
    assert holder.pop("seconds") >= 0
    assert holder == {"pid": pid, "floor": 4, "application_name": "slow-importer", "state": "idle in transaction"}
    assert "4, 2 drawn behind it" in shown
    assert "slow-importer" in shown
    assert placed.json("status")["log"]["held_back_by"] == []


def test_another_store_in_the_database_holds_nobody_back(placed: EventstoreCommand, dsn: str) -> None:
    placed.ok("migrate", "--schema", "other")
    with open_append(dsn, "order-8"):
        log = placed.json("status", "--schema", "other")["log"]

    assert (log["high_water"], log["held_back_by"]) == (0, [])


def test_an_application_that_cannot_be_loaded_keeps_nobody_from_the_status(es: EventstoreCommand) -> None:
    result = es("status", "--app", "nowhere:app")

    assert result.exit_code == 0
    assert "there is no module 'nowhere'" in result.stderr


def test_the_status_works_without_an_application(es: EventstoreCommand, settings: pytest.MonkeyPatch) -> None:
    settings.delenv("EVENTSTORE_APP")
    settings.chdir("/")

    assert es.json("status")["followers"] == []
