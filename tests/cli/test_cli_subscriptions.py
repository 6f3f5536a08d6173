"""`subscribe` runs handlers; `reset` and `forget` move and delete their checkpoints; `status` shows them."""

from __future__ import annotations

import json
import signal
from typing import Any

import pytest

from fixtures.cli_kit import EventstoreCommand, StartProcess


@pytest.fixture
def mailing(es: EventstoreCommand, settings: pytest.MonkeyPatch) -> EventstoreCommand:
    """A store of the application with a subscription, and two orders in it."""
    settings.setenv("EVENTSTORE_APP", "cli_shop:mailing")
    place(es, "order-1", "tea")
    place(es, "order-2", "nuts")
    return es


def place(es: EventstoreCommand, stream: str, sku: str) -> None:
    event = json.dumps({"type": "OrderPlaced", "data": {"sku": sku, "quantity": 1}})
    es.ok("append", stream, "--expected-version", "any", stdin=event)


def follower(es: EventstoreCommand) -> dict[str, Any]:
    [found] = es.json("status")["followers"]
    assert found["name"] == "subscription:mailer"
    return dict(found)


def streams(es: EventstoreCommand) -> dict[str, int]:
    return {info["stream_id"]: info["version"] for info in es.json("streams", "--category", "mail")}


def test_handlers_run_until_caught_up(mailing: EventstoreCommand) -> None:
    assert follower(mailing)["state"] == "not begun"
    mailing.ok("subscribe", "mailer", "--until-caught-up")

    assert streams(mailing) == {"mail-nuts": 1, "mail-tea": 1}
    found = follower(mailing)
    assert (found["state"], found["position"], found["owner"]) == ("stopped", 2, None)


@pytest.mark.usefixtures("mailing")
def test_handlers_run_until_a_signal(start: StartProcess) -> None:
    process = start("subscribe", "--json")
    assert json.loads(process.line()) == {"state": "started", "workers": ["mailer"]}
    process.signal(signal.SIGTERM)
    status, out, _ = process.end()

    assert (status, json.loads(out)["state"]) == (0, "stopped")


def test_a_handler_that_fails_ends_it_and_status_says_why(mailing: EventstoreCommand) -> None:
    place(mailing, "order-3", "curse")
    error = mailing.fails_json(1, "subscribe", "mailer", "--until-caught-up")
    found = follower(mailing)

    assert error["error"] == "SubscriptionFailedError"
    assert (found["state"], found["events_behind"] > 0) == ("failed", True)
    assert "version 1 of 'order-3'" in found["reason"]
    assert "failed: subscription 'mailer' failed 1 time(s)" in mailing.ok("status")


def test_a_reset_runs_them_again(mailing: EventstoreCommand) -> None:
    mailing.ok("subscribe", "--until-caught-up")
    assert mailing.json("reset", "mailer", "--to", "beginning") == {"subscription": "mailer", "position": "0"}
    mailing.ok("subscribe", "--until-caught-up")
    assert streams(mailing) == {"mail-nuts": 2, "mail-tea": 2}

    assert mailing.json("reset", "mailer", "--to", "1")["position"] == "1"
    assert "goes on after position" in mailing.ok("reset", "mailer", "--to", "end")
    mailing.ok("subscribe", "--until-caught-up")
    assert streams(mailing) == {"mail-nuts": 2, "mail-tea": 2}
    assert mailing.json("reset", "mailer", "--recorded-from", "2020-01-01")["position"] == "0"


def test_a_forgotten_one_begins_at_its_start(mailing: EventstoreCommand) -> None:
    mailing.ok("subscribe", "--until-caught-up")
    mailing.ok("forget", "mailer")
    assert follower(mailing)["state"] == "not begun"
    mailing.fails(5, "forget", "mailer")


@pytest.mark.parametrize("args", [(), ("--to", "end", "--recorded-from", "2020-01-01"), ("--to", "nowhere")])
def test_a_reset_says_where_to(mailing: EventstoreCommand, args: tuple[str, ...]) -> None:
    mailing.fails(2, "reset", "mailer", *args)


def test_a_subscription_that_is_not_declared_is_not_run(mailing: EventstoreCommand) -> None:
    assert "there is no subscription named 'nobody'" in mailing.fails(2, "subscribe", "nobody")


@pytest.mark.usefixtures("mailing")
def test_status_is_shown_again_and_again_until_a_signal(start: StartProcess) -> None:
    process = start("status", "--watch", "0.1", "--json")
    shown = [json.loads(process.line())["followers"][0]["name"] for _ in range(2)]
    process.signal(signal.SIGINT)

    assert (shown, process.end()[0]) == (["subscription:mailer"] * 2, 0)


def test_a_reset_of_a_name_that_nobody_has_is_refused(mailing: EventstoreCommand) -> None:
    assert "has no checkpoint" in mailing.fails(5, "reset", "mialer", "--to", "end")
    assert mailing.json("reset", "mailer", "--to", "end")["position"] == "2"  # which has not begun, and is declared
    assert [one["name"] for one in mailing.json("status")["followers"]] == ["subscription:mailer"]
