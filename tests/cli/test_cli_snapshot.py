"""`snapshot`: taken by name, when due, in the background; and verified."""

from __future__ import annotations

import re
import signal

import pytest

from fixtures.cli_kit import EventstoreCommand, Sql, StartProcess


def test_snapshots_of_named_streams_are_taken(placed: EventstoreCommand) -> None:
    taken = placed.json("snapshot", "order-2", "order-1")

    assert taken == [
        {"stream_id": "order-2", "version": 1, "replayed": 1},
        {"stream_id": "order-1", "version": 3, "replayed": 3},
    ]
    assert placed.json("snapshot", "order-1") == [{"stream_id": "order-1", "version": 3, "replayed": 0}]


def test_without_names_those_are_taken_whose_policy_says_that_they_are_due(placed: EventstoreCommand) -> None:
    assert [one["stream_id"] for one in placed.json("snapshot")] == ["order-1"]
    assert placed.json("snapshot") == []
    assert [one["stream_id"] for one in placed.json("snapshot", "--all", "--category", "order")] == ["order-2"]


def test_what_was_taken_is_told_to_people(placed: EventstoreCommand) -> None:
    result = placed("snapshot")

    assert [line.split() for line in result.stdout.splitlines()][1] == ["order-1", "3", "3"]
    assert "1 snapshot(s) taken" in result.stderr


def test_one_missing_stream_takes_none(placed: EventstoreCommand, sql: Sql) -> None:
    placed.fails(5, "snapshot", "order-1", "order-9")

    assert sql("SELECT 1 FROM eventstore.snapshots") == []


def test_snapshots_that_tell_the_truth_are_verified(placed: EventstoreCommand) -> None:
    placed.ok("snapshot", "--all")

    assert placed.json("snapshot", "--verify") == {"verified": 2, "disagree": []}
    assert placed.json("snapshot", "--verify", "--sample", "1") == {"verified": 1, "disagree": []}
    assert placed.json("snapshot", "--verify", "order-1") == {"verified": 1, "disagree": []}
    assert "2 snapshot(s) held against a full replay, 0 disagree" in placed.ok("snapshot", "--verify")


def test_a_snapshot_that_disagrees_is_1_and_says_what_to_do(placed: EventstoreCommand, sql: Sql) -> None:
    placed.ok("snapshot", "--all")
    sql("UPDATE eventstore.snapshots SET state = replace(state, 'dhl', 'ups') WHERE stream_id = 'order-1'")

    result = placed("snapshot", "--verify", "--json")

    assert result.exit_code == 1
    assert '"disagree": ["order-1"]' in result.stdout
    assert "snapshot_version" in placed.fails(1, "snapshot", "--verify", "order-1")


@pytest.mark.usefixtures("placed")
def test_snapshots_are_kept_fresh_until_a_signal(start: StartProcess, sql: Sql) -> None:
    process = start("snapshot", "--follow")
    assert process.note() == "taking snapshots; Ctrl-C stops\n"
    while not sql("SELECT 1 FROM eventstore.checkpoints WHERE name = 'snapshots:shop'"):
        pass

    process.signal(signal.SIGTERM)

    code, _, stderr = process.end()
    assert code == 0
    assert re.fullmatch(r"snapshots: \d event\(s\), stopped at position \d\n", stderr)
    assert sql("SELECT stream_id FROM eventstore.snapshots") == [("order-1",)]
    assert sql("SELECT 1 FROM eventstore.leases WHERE expires_at > now()") == []


@pytest.mark.parametrize(
    "options",
    [
        ["order-1", "--all"],
        ["--follow", "--verify"],
        ["order-1", "--category", "order"],
        ["--follow", "--category", "x"],
    ],
)
def test_options_that_contradict_each_other_are_refused(options: list[str], es: EventstoreCommand) -> None:
    es.fails(2, "snapshot", *options)


def test_categories_without_a_policy_are_told(es: EventstoreCommand) -> None:
    assert "there are: order" in es.fails(2, "snapshot", "--category", "invoice")
