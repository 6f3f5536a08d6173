"""`replay`: the state at a version, at a time, step by step, with and without a snapshot."""

from __future__ import annotations

import json
from typing import Any

import pytest

from eventstore.cli.changes import changes, flat
from fixtures.cli_kit import EventstoreCommand


def test_the_state_is_shown_with_how_it_was_loaded(placed: EventstoreCommand) -> None:
    replayed = placed.json("replay", "order-1")

    assert replayed.pop("loaded").items() >= {"snapshot_version": None, "events_replayed": 3}.items()
    assert replayed.pop("event_id") == read(placed)[-1]["event_id"]
    assert replayed == {
        "stream_id": "order-1",
        "version": 3,
        "last_version": 3,
        "position": "3",
        "state": {"status": "shipped", "lines": {"tea": 2, "cup": 1}, "carrier": "dhl"},
    }


def test_the_state_is_told_to_people(placed: EventstoreCommand) -> None:
    shown = placed.ok("replay", "order-1").splitlines()

    assert shown[0] == "order-1: version 3"
    assert shown[1].startswith("loaded from 3 event(s), without a snapshot")
    assert [line.split() for line in shown[4:]] == [
        ["status", "shipped"],
        ["lines.tea", "2"],
        ["lines.cup", "1"],
        ["carrier", "dhl"],
    ]


def test_the_state_at_a_version(placed: EventstoreCommand) -> None:
    replayed = placed.json("replay", "order-1", "--version", "1")

    assert (replayed["version"], replayed["last_version"]) == (1, 3)
    assert replayed["state"] == {"status": "placed", "lines": {"tea": 2}, "carrier": None}
    assert placed.ok("replay", "order-1", "--version", "1").startswith("order-1: version 1 of 3\n")


@pytest.mark.parametrize(
    ("at", "version"),
    [
        ("2024-05-02", 1),
        ("2024-05-02T10:00:00Z", 2),
        ("2024-05-02T12:00:00+02:00", 2),
        ("2024-05-02T11:59:59+02:00", 1),
        ("2024-05-03T10:00:00", 3),
    ],
)
def test_the_state_at_a_business_time(at: str, version: int, placed: EventstoreCommand) -> None:
    at_time = placed.json("replay", "order-1", "--at", at)
    at_version = placed.json("replay", "order-1", "--version", str(version))

    assert at_time["version"] == version
    assert at_time["state"] == at_version["state"]


def test_the_state_as_it_was_known_at_a_time(placed: EventstoreCommand) -> None:
    known = [event["recorded_at"] for event in read(placed)]

    assert placed.json("replay", "order-1", "--recorded-at", known[-1])["version"] == 3
    assert "has no events up to then" in placed.fails(5, "replay", "order-1", "--recorded-at", "2024-05-09")


def test_before_the_first_event_the_time_that_is_told_is_of_the_clock_that_was_asked(placed: EventstoreCommand) -> None:
    placed.ok(
        "append",
        "order-2",
        "--expected-version",
        "any",
        stdin='{"type": "OrderShipped", "data": {"carrier": "dhl"}, "occurred_at": "2024-04-30T10:00:00Z"}',
    )

    occurred = placed.fails(5, "replay", "order-2", "--at", "2024-04-01")
    recorded = placed.fails(5, "replay", "order-2", "--recorded-at", "2024-05-09")

    assert "--at goes by occurred_at, and the earliest occurred at 2024-04-30 10:00:00" in occurred
    assert "recorded" not in occurred
    assert "--recorded-at goes by recorded_at, and the earliest recorded at " in recorded
    assert "2024" not in recorded


@pytest.mark.parametrize("bound", [[], ["--version", "4"], ["--version", "5"], ["--at", "2024-05-09"]])
def test_with_and_without_a_snapshot_the_state_is_the_same(bound: list[str], placed: EventstoreCommand) -> None:
    append(placed, {"type": "OrderPlaced", "data": {"sku": "pot", "quantity": 7}})
    placed.ok("snapshot", "order-1")
    append(placed, {"type": "OrderShipped", "data": {"carrier": "ups"}})

    quick = placed.json("replay", "order-1", *bound)
    slow = placed.json("replay", "order-1", "--no-snapshot", *bound)

    assert {**quick, "loaded": None} == {**slow, "loaded": None}
    assert slow["loaded"]["snapshot_version"] is None
    if "--at" not in bound:
        assert quick["loaded"]["snapshot_version"] == 4
        assert quick["loaded"]["events_replayed"] == quick["version"] - 4


def test_a_snapshot_is_told_to_people(placed: EventstoreCommand) -> None:
    placed.ok("snapshot", "order-1")

    assert "from the snapshot at version 3 and 0 later event(s)" in placed.ok("replay", "order-1")


def test_each_step_shows_what_it_changed(placed: EventstoreCommand) -> None:
    steps = placed.json("replay", "order-1", "--steps")["steps"]

    assert [(step["stream_version"], step["event_type"]) for step in steps] == [
        (1, "OrderPlaced"),
        (2, "OrderPlaced"),
        (3, "OrderShipped"),
    ]
    assert steps[0]["occurred_at"] == "2024-05-01T10:00:00Z"
    assert [step["changes"] for step in steps] == [
        [{"path": "status", "from": "new", "to": "placed"}, {"path": "lines.tea", "to": 2}],
        [{"path": "lines.cup", "to": 1}],
        [{"path": "status", "from": "placed", "to": "shipped"}, {"path": "carrier", "from": None, "to": "dhl"}],
    ]


def test_steps_are_told_to_people_and_end_with_the_state(placed: EventstoreCommand) -> None:
    append(placed, {"type": "OrderShipped", "data": {"carrier": "dhl"}})

    heading, *steps = placed.ok("replay", "order-1", "--steps").splitlines()

    assert heading.split() == ["VERSION", "OCCURRED", "EVENT", "CHANGED"]
    assert steps[2].endswith("OrderShipped  status: placed → shipped, carrier: null → dhl")
    assert steps[3].endswith("OrderShipped  nothing")
    assert steps[5] == "order-1: version 4"


def test_steps_end_where_the_state_is_asked_for(placed: EventstoreCommand) -> None:
    for bound in (["--version", "2"], ["--at", "2024-05-02T10:00:00Z"]):
        assert len(placed.json("replay", "order-1", "--steps", *bound)["steps"]) == 2


def test_a_version_that_is_not_there_yet_is_not_found(placed: EventstoreCommand) -> None:
    assert "is at version 3: there is no 4 yet" in placed.fails(5, "replay", "order-1", "--version", "4")


def test_a_category_without_an_aggregate_is_answered_with_those_that_have_one(es: EventstoreCommand) -> None:
    assert "there are: order" in es.fails(2, "replay", "invoice-1")


@pytest.mark.parametrize(
    "options",
    [
        ["--version", "1", "--at", "2024-05-01"],
        ["--at", "2024-05-01", "--recorded-at", "2024-05-01"],
        ["--at", "today"],
    ],
)
def test_bounds_that_make_no_sense_are_refused(options: list[str], es: EventstoreCommand) -> None:
    es.fails(2, "replay", "order-1", *options)


@pytest.mark.parametrize("how", [[], ["--steps"], ["--at", "2030-01-01"]])
def test_an_event_that_cannot_be_folded_is_told_without_its_data(how: list[str], placed: EventstoreCommand) -> None:
    append(placed, {"type": "OrderCursed", "data": {"secret": "hunter2"}, "occurred_at": "2024-05-04T00:00:00Z"})

    said = placed.fails(1, "replay", "order-1", *how)

    assert "evolve raised ValueError at cli_shop.py" in said
    assert "hunter2" not in said
    if how == ["--steps"]:
        assert "version 4 of 'order-1'" in said


def test_changes_are_told_path_by_path() -> None:
    before = {"a": 1, "b": {"x": 1, "y": [1]}, "c": {}, "d": 1, "e": 1}
    after = {"a": 1, "b": {"x": 2, "y": [1, 2]}, "c": {"n": 0}, "d": True, "f": None}

    assert [(change.path, repr(change.before), repr(change.after)) for change in changes(before, after)] == [
        ("b.x", "1", "2"),
        ("b.y", "[1]", "[1, 2]"),
        ("c.n", "absent", "0"),
        ("d", "1", "True"),
        ("f", "absent", "None"),
        ("e", "1", "absent"),
    ]
    assert changes(after, after) == []


def test_a_state_that_is_no_object_is_one_value() -> None:
    assert list(flat(5)) == [("state", 5)]


def append(es: EventstoreCommand, event: dict[str, Any]) -> None:
    es.ok("append", "order-1", "--expected-version", "exists", stdin=json.dumps(event))


def read(es: EventstoreCommand) -> list[dict[str, Any]]:
    return [json.loads(line) for line in es.ok("read", "order-1", "--json").splitlines()]
