"""`parked`: what is held back is listed, shown with the error, replayed or discarded; nothing shows a payload."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.cli_kit import EventstoreCommand, Sql

MENDED = "UPDATE mending SET mended = true"
APPLICATION = """
from cli_shop import *
from eventstore import Park

class SpoiltError(Exception):
    pass

careful = Projection(
    "careful",
    setup="CREATE TABLE sales (sku text PRIMARY KEY, n bigint NOT NULL)",
    on_failure=Park(attempts=2, first=0.001),
)

@careful.on(OrderPlaced)
async def carefully(event, ctx):
    if event.data.sku == "cup" and not await ctx.connection.fetchval("SELECT mended FROM public.mending"):
        raise SpoiltError(event.data.sku)
    await count(event, ctx)

app = Application("shop", events=events, aggregates=[Order], projections=[careful])
"""


@pytest.fixture
def held(placed: EventstoreCommand, settings: pytest.MonkeyPatch, sql: Sql, tmp_path: Path) -> EventstoreCommand:
    """The command with order-1 parked from its second event on."""
    module = f"parking_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(APPLICATION, encoding="utf-8")
    settings.syspath_prepend(tmp_path)
    settings.setenv("EVENTSTORE_APP", f"{module}:app")
    sql("CREATE TABLE public.mending (mended bool)")
    sql("INSERT INTO public.mending VALUES (false)")
    placed.ok("project", "careful", "--until-caught-up")
    return placed


def sold(sql: Sql) -> dict[str, int]:
    return dict(sql("SELECT sku, n FROM careful_v1.sales"))


def test_what_is_held_back_is_listed(held: EventstoreCommand) -> None:
    (found,) = held.json("parked", "list")
    shown = held.ok("parked", "list", "careful")

    assert (found["consumer"], found["stream_id"], found["from_version"]) == ("careful@1", "order-1", 2)
    assert (found["error_type"], found["attempts"], found["held"]) == ("SpoiltError", 2, 2)
    assert "order-1" in shown
    assert "SpoiltError" in shown


def test_status_tells_how_many(held: EventstoreCommand) -> None:
    (found,) = held.json("status")["parked"]

    assert (found["name"], found["streams"]) == ("careful@1", 1)
    assert "PARKED BY" in held.ok("status")


def test_nothing_held_back_is_an_empty_list(es: EventstoreCommand) -> None:
    assert es.json("parked", "list") == []
    assert es.ok("parked", "list") == ""
    assert es.json("parked", "list", "--discarded") == []


def test_the_error_is_shown_with_its_place_and_without_the_payload(held: EventstoreCommand) -> None:
    shown = held.ok("parked", "show", "careful", "order-1")

    assert "SpoiltError" in shown
    assert "in carefully" in shown
    assert "after 2 attempt(s)" in shown
    assert "cup" not in shown
    assert held.json("parked", "show", "careful", "order-1")["event_type"] == "OrderPlaced"


def test_a_replay_applies_it_once_the_handler_is_mended(held: EventstoreCommand, sql: Sql) -> None:
    assert sold(sql) == {"tea": 4}
    assert "are held back still" in held.fails(1, "parked", "replay", "careful", "order-1")
    assert held.json("parked", "show", "careful", "order-1")["attempts"] == 3

    sql(MENDED)
    assert "order-1: 1 event(s) applied" in held.ok("parked", "replay", "careful", "order-1")

    assert sold(sql) == {"tea": 4, "cup": 1}
    assert held.json("parked", "list") == []
    held.fails(5, "parked", "replay", "careful", "order-1")


def test_all_can_be_replayed_at_once(held: EventstoreCommand, sql: Sql) -> None:
    sql(MENDED)

    (replayed,) = held.json("parked", "replay", "careful", "--all")

    assert replayed == {"stream_id": "order-1", "events": 1, "parked": None}
    assert held.json("parked", "replay", "careful", "--all") == []


def test_discarding_needs_a_reason_and_a_yes_and_is_kept(held: EventstoreCommand, sql: Sql) -> None:
    held.fails(2, "parked", "discard", "careful", "order-1", "--yes")
    assert "--yes" in held.fails(2, "parked", "discard", "careful", "order-1", "--reason", "broken cup")
    assert "--version" in held.fails(2, "parked", "discard", "careful", "order-1", "--reason", "broken cup", "--yes")
    other = ("--reason", "broken cup", "--yes", "--version", "1")
    assert "from version 2 on, not from 1" in held.fails(1, "parked", "discard", "careful", "order-1", *other)
    assert len(held.json("parked", "list")) == 1

    held.ok(
        "parked", "discard", "careful", "order-1", "--reason", "broken cup", "--by", "alice", "--yes", "--version", "2"
    )

    assert held.json("parked", "list") == []
    assert sold(sql) == {"tea": 4}
    (kept,) = held.json("parked", "list", "--discarded")
    assert (kept["discarded_by"], kept["reason"], kept["stream_version"]) == ("alice", "broken cup", 2)
    assert "broken cup" in held.ok("parked", "list", "--discarded")


def test_what_is_not_there_is_not_found(held: EventstoreCommand) -> None:
    held.fails(5, "parked", "show", "careful", "order-2")
    held.fails(2, "parked", "show", "sails", "order-1")
    held.fails(2, "parked", "replay", "careful")
    assert json.loads(held.fails(5, "parked", "show", "careful", "order-2", "--json"))["error"] == "NotParkedError"
