from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from benchmarks.peers.environments import CannotBeHadError
from benchmarks.peers.histories import __main__ as histories
from benchmarks.peers.histories.judging import Judged
from benchmarks.peers.histories.ours import Ours
from benchmarks.peers.histories.playing import Appended, Conflict, Shown, Subject, play
from fixtures.history.model import Verdict

APPENDS = 8
PAGE = histories.ROOT / "docs" / "history.md"


# --- a play ----------------------------------------------------------------------------------------------------------


async def test_the_framework_plays_with_conflicts_on_shared_streams_and_nothing_is_found(dsn: str) -> None:
    judged = Judged()

    judged.add(await play(Ours(dsn), seed=1, appends=APPENDS))

    assert judged.found == [{}]
    assert judged.counts["acknowledged"] > 0
    assert judged.counts["conflict"] > 0
    assert judged.counts["unknown"] == 0


class Withholding(Ours):
    """Its follower is once not shown the last event of a page, and goes on behind it."""

    withheld = False

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        events, place = await super().read_log(place)
        if len(events) > 1 and not self.withheld:
            self.withheld = True
            events = events[:-1]
        return events, place


class Stale(Ours):
    """A read of a stream lacks its end, now and then."""

    reads = 0

    async def read_stream(self, stream: UUID) -> list[Shown]:
        self.reads += 1
        events = await super().read_stream(stream)
        return events[:-1] if self.reads % 5 == 0 else events


class Lying(Ours):
    """Tells one writer of a conflict that was none."""

    lied = False

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        done = await super().append(stream, expected, tokens)
        if not self.lied:
            self.lied = True
            raise Conflict
        return done


class Losing(Ours):
    """Acknowledges an append that it does not make."""

    lost = False

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        if not self.lost:
            self.lost = True
            return Appended()
        return await super().append(stream, expected, tokens)


@pytest.mark.parametrize(
    ("broken", "verdict"),
    [
        (Withholding, Verdict.SKIPPED),
        (Stale, Verdict.STALE),
        (Lying, Verdict.PHANTOM),
        (Losing, Verdict.LOST),
    ],
)
async def test_a_library_that_breaks_a_promise_is_found_out(broken: type[Subject], verdict: Verdict, dsn: str) -> None:
    judged = Judged()

    judged.add(await play(broken(dsn), seed=2, appends=APPENDS))

    assert judged.found[0][verdict] > 0
    assert judged.examples[verdict]


class Failing(Ours):
    """Raises what says nothing about the events, after they were appended."""

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        await super().append(stream, expected, tokens)
        raise ConnectionError("cut")


async def test_an_error_that_does_not_say_what_happened_is_no_promise_and_is_told(dsn: str) -> None:
    judged = Judged()

    judged.add(await play(Failing(dsn), seed=3, appends=2))

    assert judged.found == [{}]
    assert judged.counts["unknown"] > 0
    assert judged.reasons["ConnectionError: cut"] == judged.counts["unknown"]


# --- a library without a log -----------------------------------------------------------------------------------------


class Streams(Ours):
    """The framework without its log; readers are not told positions."""

    async def read_stream(self, stream: UUID) -> list[Shown]:
        return [event._replace(position=None) for event in await super().read_stream(stream)]

    async def read_log(self, place: Any) -> tuple[list[Shown], Any]:
        return await Subject.read_log(self, place)

    async def append(self, stream: UUID, expected: int | None, tokens: list[str]) -> Appended:
        await super().append(stream, expected, tokens)
        return Appended()


async def test_a_library_without_a_log_is_judged_by_its_streams(dsn: str) -> None:
    judged = Judged()

    judged.add(await play(Streams(dsn), seed=4, appends=APPENDS))

    assert judged.found == [{}]
    assert judged.counts["events"] > 0


def played(appends: Sequence[tuple[str, float, float]], shown: Sequence[str]) -> dict[str, Any]:
    """One stream of a library without a log: tokens with the times of call and answer; what was shown in the end."""
    stream = str(uuid4())
    return {
        "appends": [
            {
                "stream_id": stream,
                "event_ids": [token],
                "expected": -2,
                "called": called,
                "answered": answered,
                "outcome": "acknowledged",
            }
            for token, called, answered in appends
        ],
        "log_reads": [],
        "stream_reads": [
            {
                "stream_id": stream,
                "begun": 100,
                "ended": 101,
                "events": [[None, stream, version, token] for version, token in enumerate(shown, 1)],
            }
        ],
        "log": None,
    }


def test_its_events_may_be_in_any_order_that_the_calls_allow() -> None:
    side_by_side = [("a", 1.0, 4.0), ("b", 2.0, 3.0)]
    for order in ("ab", "ba"):
        judged = Judged()
        judged.add(played(side_by_side, order))
        assert judged.found == [{}]


def test_an_order_that_the_calls_do_not_allow_is_found() -> None:
    judged = Judged()
    judged.add(played([("a", 1.0, 2.0), ("b", 3.0, 4.0)], "ba"))
    assert judged.found[0][Verdict.OUT_OF_ORDER] == 1


def test_an_event_that_a_reader_was_shown_and_that_is_gone_is_a_phantom() -> None:
    gone = played([("a", 1.0, 2.0), ("b", 3.0, 4.0)], "ab")
    (last,) = gone["stream_reads"]
    gone["stream_reads"] = [last, {**last, "events": last["events"][:1]}]

    judged = Judged()
    judged.add(gone)

    assert judged.found[0][Verdict.PHANTOM] == 1
    assert judged.found[0][Verdict.LOST] == 1


# --- the page --------------------------------------------------------------------------------------------------------


def test_a_run_writes_its_table_between_the_markers_of_the_page(durable_dsn: str, tmp_path: Path) -> None:
    page = tmp_path / "history.md"
    page.write_text("Before.\n\n<!-- measured: histories -->\nformer\n<!-- end -->\n\nAfter.\n")
    options = ["--dsn", durable_dsn, "--page", str(page), "--runs", "2", "--appends", "3", "--seed", "7"]

    assert histories.main([*options, "--only", "ours"]) == 0

    text = page.read_text()
    assert text.startswith("Before.\n\n<!-- measured: histories -->\n\n| library")
    assert text.endswith("<!-- end -->\n\nAfter.\n")
    assert "former" not in text
    assert "| this framework | read_all | 2 |" in text
    assert "| nothing |" in text
    assert "seeds 7 to 8" in text


def test_a_library_that_cannot_be_had_is_named_with_the_reason_and_the_others_are_played(
    durable_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nowhere(_: object) -> None:
        raise CannotBeHadError("it needs another Python")

    monkeypatch.setattr(histories, "environment", nowhere)
    page = tmp_path / "history.md"
    options = ["--dsn", durable_dsn, "--page", str(page), "--runs", "1", "--appends", "2"]

    assert histories.main([*options, "--only", "ours,oop_es_pg"]) == 0

    assert "stopped: it needs another Python" in page.read_text()
    assert "| this framework |" in page.read_text()


def test_a_name_that_there_is_not_is_refused_with_those_that_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert histories.main(["--only", "oursandtheirs"]) == 1
    assert "oop_es_pg" in capsys.readouterr().err


def test_a_run_of_some_is_printed_and_leaves_the_page_as_it_is(
    durable_dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = PAGE.read_text()

    assert histories.main(["--dsn", durable_dsn, "--only", "ours", "--runs", "1", "--appends", "2"]) == 0

    assert "| this framework | read_all | 1 |" in capsys.readouterr().out
    assert PAGE.read_text() == before


def test_a_library_that_takes_too_long_is_named_without_the_address_of_the_database(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(histories, "_SECONDS", 0.01)

    with pytest.raises(histories.PlayFailedError) as failed:
        histories.Contestant("ours", "read_all").play("postgresql://alice:secret@nowhere/shop", 1, 1)

    assert "not done within" in str(failed.value)
    assert "secret" not in str(failed.value)
