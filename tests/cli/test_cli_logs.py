"""`streams` and `read`."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from fixtures.cli_kit import EventstoreCommand, Sql, StartProcess, StoreRaw


def lines(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines()]


# --- streams -------------------------------------------------------------------------------------------------------


def test_streams_are_listed_in_the_order_of_their_ids(placed: EventstoreCommand) -> None:
    listed = placed.json("streams")

    assert [(stream["stream_id"], stream["category"], stream["version"]) for stream in listed] == [
        ("order-1", "order", 3),
        ("order-2", "order", 1),
    ]
    assert listed[0]["created_at"] <= listed[0]["updated_at"]


def test_streams_are_limited_and_say_how_to_go_on(placed: EventstoreCommand) -> None:
    result = placed("streams", "--limit", "1")

    assert "order-1" in result.stdout
    assert "order-2" not in result.stdout
    assert "--after order-1" in result.stderr
    assert [stream["stream_id"] for stream in placed.json("streams", "--after", "order-1")] == ["order-2"]


def test_streams_of_another_category_are_none(placed: EventstoreCommand) -> None:
    assert placed.json("streams", "--category", "invoice") == []


def test_numbers_stand_on_the_right_and_ids_are_never_cut(es: EventstoreCommand) -> None:
    key = "k" * 200
    for _ in range(10):
        es.ok(
            "append",
            f"order-{key}",
            "--expected-version",
            "any",
            stdin='{"type": "OrderShipped", "data": {"carrier": "x"}}',
        )
    es.ok("append", "order-1", "--expected-version", "any", stdin='{"type": "OrderShipped", "data": {"carrier": "x"}}')

    heading, first, second = es.ok("streams").splitlines()

    end = heading.index("EVENTS") + len("EVENTS")
    assert first[:end].split() == ["order-1", "1"]
    assert second[:end].split() == [f"order-{key}", "10"]
    assert first[end - 1] == "1"


# --- read ----------------------------------------------------------------------------------------------------------


def test_a_stream_is_read_for_people(placed: EventstoreCommand) -> None:
    heading, *rows = placed.ok("read", "order-1").splitlines()

    assert heading.split() == ["VERSION", "OCCURRED", "TYPE", "DATA"]
    assert rows[0].split(maxsplit=4) == [
        "1",
        "2024-05-01",
        "10:00:00.000Z",
        "OrderPlaced",
        '{"sku": "tea", "quantity": 2}',
    ]
    assert len(rows) == 3


def test_a_stream_is_read_for_machines_a_line_for_each_event(placed: EventstoreCommand) -> None:
    first, _, third = lines(placed.ok("read", "order-1", "--json"))

    assert list(first) == [
        "position",
        "stream_id",
        "stream_version",
        "event_id",
        "event_type",
        "schema_version",
        "data",
        "metadata",
        "occurred_at",
        "recorded_at",
    ]
    assert first["position"] == "1"
    assert first["occurred_at"] == "2024-05-01T10:00:00Z"
    assert third["data"] == {"carrier": "dhl", "express": False}


def test_a_part_of_a_stream_is_read(placed: EventstoreCommand) -> None:
    def versions(*options: str) -> list[int]:
        return [event["stream_version"] for event in lines(placed.ok("read", "order-1", "--json", *options))]

    assert versions("--from-version", "2") == [2, 3]
    assert versions("--to-version", "2") == [1, 2]
    assert versions("--backwards") == [3, 2, 1]
    assert versions("--backwards", "--limit", "1") == [3]
    assert versions("--type", "OrderShipped") == [3]
    assert versions("--type", "OrderShipped", "--raw") == [3]
    assert versions("--from-version", "9") == []


def test_the_log_is_read_in_order(placed: EventstoreCommand) -> None:
    def found(*options: str) -> list[tuple[str, int]]:
        read = lines(placed.ok("read", "--all", "--json", *options))
        return [(event["stream_id"], event["stream_version"]) for event in read]

    assert found() == [("order-1", 1), ("order-1", 2), ("order-1", 3), ("order-2", 1)]
    assert found("--after", "3") == [("order-2", 1)]
    assert found("--after", "end") == []
    assert found("--limit", "1") == [("order-1", 1)]
    assert found("--category", "invoice") == []
    assert found("--category", "invoice", "--category", "order", "--type", "OrderShipped") == [("order-1", 3)]


def test_the_log_for_people_names_streams_and_positions(placed: EventstoreCommand) -> None:
    heading, *rows = placed.ok("read", "--all").splitlines()

    assert heading.split() == ["POSITION", "STREAM", "VERSION", "OCCURRED", "TYPE", "DATA"]
    assert rows[3].split()[:3] == ["4", "order-2", "1"]


def test_without_an_application_events_are_shown_as_they_are_stored(
    placed: EventstoreCommand, store_raw: StoreRaw, settings: pytest.MonkeyPatch
) -> None:
    store_raw("order-3", after=0, event_type="OrderPlaced", schema_version=1, data='{"sku": "old"}')

    with_models = lines(placed.ok("read", "order-3", "--json"))
    raw = lines(placed.ok("read", "order-3", "--json", "--raw"))
    settings.delenv("EVENTSTORE_APP")
    settings.chdir("/")
    without = lines(placed.ok("read", "order-3", "--json"))

    assert [(event["schema_version"], event["data"]) for event in with_models] == [(2, {"sku": "old", "quantity": 1})]
    assert raw == without
    assert [(event["schema_version"], event["data"]) for event in raw] == [(1, {"sku": "old"})]


def test_events_of_unknown_types_come_as_they_are_stored_beside_known_ones(
    placed: EventstoreCommand, store_raw: StoreRaw
) -> None:
    store_raw("order-2", after=1, event_type="Foreign", schema_version=7, data='{"a": 1}')

    assert [event["data"] for event in lines(placed.ok("read", "order-2", "--json"))] == [
        {"sku": "tea", "quantity": 2},
        {"a": 1},
    ]


def test_an_event_that_cannot_be_read_says_how_to_see_it(placed: EventstoreCommand, store_raw: StoreRaw) -> None:
    store_raw("order-2", after=1, event_type="OrderPlaced", schema_version=2, data='{"sku": 123456}')

    said = placed.fails(1, "read", "order-2")

    assert "version 2 of 'order-2'" in said
    assert "--raw" in said
    assert "123456" not in said


def test_an_unknown_type_to_read_is_answered_with_the_known_ones(placed: EventstoreCommand) -> None:
    said = placed.fails(2, "read", "--all", "--type", "Ordered")

    assert "there are: OrderCursed, OrderPlaced, OrderShipped, OrderWeighed" in said


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["order-1", "--all"],
        ["--all", "--backwards"],
        ["order-1", "--after", "1"],
        ["order-1", "--category", "order"],
        ["order-1", "--follow", "--backwards"],
        ["order-1", "--follow", "--to-version", "2"],
        ["--all", "--after", "x"],
        ["order-1", "--limit", "0"],
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], es: EventstoreCommand) -> None:
    es.fails(2, "read", *options)


# --- read --follow -------------------------------------------------------------------------------------------------

SHIPPED = '{"type": "OrderShipped", "data": {"carrier": "ups"}}'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_following_a_stream_shows_what_is_there_and_what_comes_until_a_signal(
    number: signal.Signals, placed: EventstoreCommand, start: StartProcess
) -> None:
    process = start("read", "order-1", "--follow", "--from-version", "3", "--json")
    there = json.loads(process.line())
    placed.ok("append", "order-2", "--expected-version", "any", stdin=SHIPPED)
    placed.ok("append", "order-1", "--expected-version", "3", stdin=SHIPPED)
    come = json.loads(process.line())

    process.signal(number)

    assert (there["stream_version"], come["stream_version"]) == (3, 4)
    assert come["stream_id"] == "order-1"
    assert process.end() == (0, "", "")


def test_following_the_log_ends_at_its_limit(placed: EventstoreCommand, start: StartProcess) -> None:
    process = start("read", "--all", "--follow", "--limit", "5", "--json")
    for _ in range(4):
        process.line()

    placed.ok("append", "order-1", "--expected-version", "3", stdin=SHIPPED)

    assert json.loads(process.line())["stream_version"] == 4
    assert process.end() == (0, "", "")


def test_following_from_the_end_passes_over_what_is_there(
    placed: EventstoreCommand, start: StartProcess, sql: Sql
) -> None:
    process = start("read", "--all", "--follow", "--after", "end", "--json")
    while not sql("SELECT 1 FROM pg_stat_activity WHERE application_name = 'eventstore' AND query LIKE '%last_value%' "
                  "AND datname = current_database()"):  # fmt: skip
        pass  # it asks for the last value once it follows

    placed.ok("append", "order-9", "--expected-version", "none", stdin=SHIPPED)

    assert json.loads(process.line())["stream_id"] == "order-9"
