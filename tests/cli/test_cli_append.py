"""`append`: JSON from stdin, checked by the models, all or nothing."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID, uuid4

import pytest

from fixtures.cli_kit import EventstoreCommand

PLACED = {"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 2}}
SHIPPED = {"type": "OrderShipped", "data": {"carrier": "dhl"}}


def append(es: EventstoreCommand, stdin: str | bytes, expected: str = "any", stream: str = "order-1") -> Any:
    return es.json("append", stream, "--expected-version", expected, stdin=stdin)


def refused(es: EventstoreCommand, stdin: str | bytes, code: int = 2) -> str:
    said = es.fails(code, "append", "order-1", "--expected-version", "any", stdin=stdin)
    assert es.json("streams") == []
    return said


def test_the_result_of_an_append_is_printed(es: EventstoreCommand) -> None:
    result = append(es, json.dumps([PLACED, SHIPPED]), "none")

    assert [UUID(event_id).version for event_id in result.pop("event_ids")] == [7, 7]
    assert result == {
        "stream_id": "order-1",
        "first_version": 1,
        "stream_version": 2,
        "position": "2",
        "repeated": False,
    }


def test_the_result_is_told_to_people(es: EventstoreCommand) -> None:
    said = es.ok("append", "order-1", "--expected-version", "none", stdin=json.dumps([PLACED, SHIPPED]))

    assert said.startswith("order-1: versions 1 to 2, position 2, appended\n")


@pytest.mark.parametrize(
    "stdin",
    [
        json.dumps(PLACED),
        json.dumps([PLACED]),
        json.dumps(PLACED, indent=2) + "\n\n",
        b"\xef\xbb\xbf" + json.dumps(PLACED).encode(),
        json.dumps(PLACED).replace('"type"', '"event_type"'),
    ],
)
def test_one_event_may_be_written_in_several_ways(stdin: str | bytes, es: EventstoreCommand) -> None:
    assert append(es, stdin)["stream_version"] == 1


@pytest.mark.parametrize("stdin", ["{}", " [\t{} ,\n{} ] ", "{}\n{}"])
def test_digits_that_a_float_has_no_room_for_are_not_lost_on_the_way_into_a_decimal(
    stdin: str, es: EventstoreCommand
) -> None:
    weighed = '{"type": "OrderWeighed", "data": {"grams": %s}}'

    said = refused(es, stdin.replace("{}", weighed % "12345678901234567.89"))
    append(es, stdin.replace("{}", weighed % '"12345678901234567.89"'))

    assert "more digits than a float keeps" in said
    events = es.ok("read", "order-1", "--json").splitlines()
    assert {json.loads(event)["data"]["grams"] for event in events} == {"12345678901234567.89"}


@pytest.mark.parametrize("between", ["\n", " ", "\r\n\n"])
def test_many_events_may_follow_each_other(between: str, es: EventstoreCommand) -> None:
    assert append(es, between.join([json.dumps(PLACED), json.dumps(SHIPPED)]))["stream_version"] == 2


def test_ids_times_and_metadata_are_taken(es: EventstoreCommand) -> None:
    event = PLACED | {
        "event_id": str(uuid4()),
        "occurred_at": "2024-05-01T12:00:00+02:00",
        "metadata": {"actor": "alice", "correlation_id": "c", "extra": {"shelf": [1, 2]}},
    }
    append(es, json.dumps(event))

    read = es.json("read", "order-1")

    assert read["event_id"] == event["event_id"]
    assert read["occurred_at"] == "2024-05-01T10:00:00Z"
    assert read["metadata"] == event["metadata"]


def test_the_same_append_again_returns_the_original_result(es: EventstoreCommand) -> None:
    event = json.dumps(PLACED | {"event_id": str(uuid4())})
    first = append(es, event, "none")

    again = append(es, event, "none")

    assert again == first | {"repeated": True}
    assert "this is the original result" in es.ok("append", "order-1", "--expected-version", "none", stdin=event)


def test_the_same_id_with_other_content_is_a_conflict(es: EventstoreCommand) -> None:
    event_id = str(uuid4())
    append(es, json.dumps(PLACED | {"event_id": event_id}))

    error = es.fails_json(
        4, "append", "order-1", "--expected-version", "any", stdin=json.dumps(SHIPPED | {"event_id": event_id})
    )

    assert (error["error"], error["event_ids"]) == ("IdempotencyError", [event_id])


@pytest.mark.parametrize(
    ("expected", "fits"), [("none", False), ("0", False), ("1", True), ("exists", True), ("ANY", True)]
)
def test_the_expected_version_is_checked(expected: str, fits: bool, es: EventstoreCommand) -> None:
    append(es, json.dumps(PLACED), "none")

    result = es("append", "order-1", "--expected-version", expected, stdin=json.dumps(SHIPPED))

    assert result.exit_code == (0 if fits else 4)


def test_there_is_no_default_for_the_expected_version(es: EventstoreCommand) -> None:
    es.fails(2, "append", "order-1", stdin=json.dumps(PLACED))
    for wrong in ("-1", "1.5", "all", "１"):  # noqa: RUF001 - a digit that is none
        es.fails(2, "append", "order-1", "--expected-version", wrong, stdin=json.dumps(PLACED))


@pytest.mark.parametrize(
    ("stdin", "problem"),
    [
        ("", "no events on stdin"),
        ("[]", "no events on stdin"),
        ("{", "stdin, line 1, is not JSON"),
        (json.dumps(PLACED) + "\n\n{'type'}", "stdin, line 3, is not JSON"),
        (b"\xff", "not UTF-8"),
        ("[" * 100_000, "too deep"),
        ('{"type": "OrderPlaced", "type": "OrderShipped", "data": {}}', "a name twice"),
        ("1", "event 1 on stdin"),
        ('{"type": "OrderPlaced"}', "data: missing"),
        (json.dumps(PLACED | {"ocurred_at": "2024-05-01"}), "ocurred_at: extra_forbidden"),
        (json.dumps(PLACED | {"occurred_at": "2024-05-01T10:00:00"}), "occurred_at: timezone_aware"),
        (json.dumps(PLACED | {"metadata": {"user": "x"}}), "metadata.user: extra_forbidden"),
        (json.dumps(PLACED | {"metadata": {"extra": {"$actor": "x"}}}), "'$actor' is not allowed"),
        ('{"type": "OrderPlaced", "data": {"sku": "tea", "quantity": 2, "colour": 1}}', "no field 'colour'"),
        ('{"type": "Ordered", "data": {}}', "there are: OrderCursed, OrderPlaced, OrderShipped, OrderWeighed"),
    ],
)
def test_bad_input_says_what_is_wrong_and_appends_nothing(
    stdin: str | bytes, problem: str, es: EventstoreCommand
) -> None:
    assert problem in refused(es, stdin)


def test_a_bad_event_is_named_without_its_data_and_the_good_ones_are_not_appended(es: EventstoreCommand) -> None:
    bad = {"type": "OrderPlaced", "data": {"sku": "tea", "quantity": "hunter2"}}

    said = refused(es, json.dumps([PLACED, bad]))

    assert "event 2 ('OrderPlaced'): quantity: int_parsing" in said
    assert "hunter2" not in said


def test_data_that_would_not_come_back_is_refused(es: EventstoreCommand) -> None:
    assert "NUL" in refused(es, '{"type": "OrderPlaced", "data": {"sku": "\\u0000", "quantity": 1}}', code=1)


def test_a_wrong_command_line_reads_nothing_from_stdin(es: EventstoreCommand) -> None:
    assert "invalid stream id" in es.fails(2, "append", "order", "--expected-version", "any", stdin="{")
