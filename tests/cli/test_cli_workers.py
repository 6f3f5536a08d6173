"""`publish`, `project` and `rebuild`: workers under signals."""

from __future__ import annotations

import json
import re
import signal
import sys
import uuid
from pathlib import Path

import pytest

from fixtures.cli_kit import EventstoreCommand, Sql, StartProcess

SHIPPED = '{"type": "OrderShipped", "data": {"carrier": "x"}}'
TEA = '{"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 5}}'


def sold(sql: Sql) -> dict[str, int]:
    return dict(sql("SELECT sku, n FROM sales_v1.sales"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_stops_cleanly_at_a_signal(
    number: signal.Signals, placed: EventstoreCommand, start: StartProcess, sql: Sql
) -> None:
    process = start("project", "sales")
    assert process.note() == "projecting from log: sales; Ctrl-C stops\n"
    while lag(placed, "sales@1"):
        pass

    process.signal(number)

    code, stdout, stderr = process.end()
    assert (code, stdout) == (0, "")
    assert re.fullmatch(r"sales: \d event\(s\), stopped at position \d\n", stderr)
    assert sold(sql) == {"tea": 4, "cup": 1}
    assert sql("SELECT 1 FROM eventstore.leases WHERE expires_at > now()") == []


def test_a_worker_goes_on_where_it_stopped(placed: EventstoreCommand, sql: Sql) -> None:
    placed.ok("project", "sales", "--until-caught-up")
    placed.ok("append", "order-3", "--expected-version", "none", stdin=TEA)

    started, stopped = map(json.loads, placed.ok("project", "sales", "--until-caught-up", "--json").splitlines())

    assert started == {"state": "started", "workers": ["sales"]}
    assert stopped == {"state": "stopped", "workers": [{"name": "sales", "position": 5, "events": 1}]}
    assert sold(sql) == {"tea": 9, "cup": 1}


def test_catching_up_can_be_given_up_in_time(placed: EventstoreCommand, sql: Sql) -> None:
    sql("INSERT INTO eventstore.leases (name, owner, expires_at) VALUES ('projection:sales@1', 'another', 'infinity')")

    error = placed.fails(3, "project", "sales", "--until-caught-up", "--within", "0.3")

    assert "'sales@1' has not come as far as was asked for within 0." in error
    placed.fails(2, "project", "sales", "--within", "0.3")


def test_catching_up_ends_also_behind_positions_that_were_drawn_and_never_committed(
    placed: EventstoreCommand, sql: Sql
) -> None:
    sql("SELECT nextval('eventstore.events_global_position_seq')")

    placed.ok("project", "sales", "--until-caught-up")

    assert lag(placed, "sales@1") == 0


def test_a_handler_that_fails_is_1_and_names_the_event_without_its_data(placed: EventstoreCommand) -> None:
    result = placed("project", "sales", "fragile")

    assert result.exit_code == 1
    assert "projection 'fragile' failed on version 1 of 'order-1' ('OrderPlaced'): ValueError" in result.stderr
    assert "Traceback" not in result.stderr
    assert "tea" not in result.stderr
    assert lag(placed, "fragile@1") == 4


def test_unknown_names_are_answered_with_the_known_ones(es: EventstoreCommand) -> None:
    assert "there are: sales, totals, fragile" in es.fails(2, "project", "sails")
    assert "there are: sales, totals, fragile" in es.fails(2, "rebuild", "sails")
    assert "there are: orders" in es.fails(2, "publish", "ordering")


def test_an_inline_projection_is_not_run(es: EventstoreCommand) -> None:
    assert "it runs in the appends themselves" in es.fails(2, "project", "totals")


def test_a_projection_that_kafka_cannot_feed_is_refused_instead_of_being_fed_from_the_log(
    es: EventstoreCommand,
) -> None:
    said = es.fails(1, "project", "fragile", "--from", "kafka", "--kafka", "localhost:9092")
    assert "projection 'fragile' cannot be fed from Kafka" in said


def test_without_brokers_the_message_says_how_to_name_them(es: EventstoreCommand) -> None:
    assert "EVENTSTORE_KAFKA" in es.fails(2, "publish", "orders")
    assert "EVENTSTORE_KAFKA" in es.fails(2, "project", "sales", "--from", "kafka")


def test_a_rebuild_builds_the_read_model_anew(placed: EventstoreCommand, sql: Sql) -> None:
    placed.ok("project", "sales", "--until-caught-up")
    sql("UPDATE sales_v1.sales SET n = 0")

    rebuilt = placed.json("rebuild", "sales")

    assert rebuilt.pop("seconds") > 0
    assert rebuilt == {"projection": "sales", "version": 1, "events": 3}
    assert sold(sql) == {"tea": 4, "cup": 1}
    assert "sales@1: built anew from 3 event(s)" in placed.ok("rebuild", "sales")


def test_a_rebuild_that_fails_leaves_the_read_model_in_use(placed: EventstoreCommand, sql: Sql) -> None:
    said = placed.fails(1, "rebuild", "fragile")

    assert "projection 'fragile' failed on version 1 of 'order-1'" in said
    assert sql("SELECT count(*) FROM fragile_v1.sales") == [(0,)]


def test_events_reach_a_read_model_through_kafka(
    placed: EventstoreCommand,
    settings: pytest.MonkeyPatch,
    sql: Sql,
    kafka_bootstrap: str,
    tmp_path: Path,
) -> None:
    module = f"kafka_shop_{uuid.uuid4().hex[:8]}"
    (tmp_path / f"{module}.py").write_text(
        f"from cli_shop import make_app\napp = make_app('{module}-')", encoding="utf-8"
    )
    settings.setattr(sys, "path", [*sys.path, str(tmp_path)])
    options = ("--app", f"{module}:app", "--kafka", kafka_bootstrap, "--json")

    published = placed.ok("publish", "orders", "--until-caught-up", *options).splitlines()
    projected = placed.ok("project", "sales", "--from", "kafka", "--until-caught-up", *options).splitlines()

    assert json.loads(published[-1])["workers"] == [{"name": "orders", "position": 4, "events": 4}]
    assert json.loads(projected[-1])["workers"][0]["name"] == "sales"
    assert sold(sql) == {"tea": 4, "cup": 1}

    def behind(*options: str) -> tuple[str, int | None]:
        (reader,) = placed.json("status", *options)["kafka_readers"]
        return reader["name"], reader["lag"]

    assert behind() == ("sales@1", None)
    assert behind("--kafka", kafka_bootstrap) == ("sales@1", 0)
    order = json.dumps({"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 1}})
    placed.ok("append", "order-9", "--expected-version", "any", stdin=order)
    placed.ok("publish", "orders", "--until-caught-up", *options)
    _, lag = behind("--kafka", kafka_bootstrap)
    assert lag is not None
    assert lag >= 1


def lag(es: EventstoreCommand, name: str) -> int:
    [found] = [reader["lag"] for reader in es.json("status")["followers"] if reader["name"] == name]
    assert isinstance(found, int)
    return found
