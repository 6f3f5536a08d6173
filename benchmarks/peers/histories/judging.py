"""Our side: makes a history of what a library's process has written, has the checker judge it, and counts.

The checker is the tests' own (`tests/fixtures/history/`): what judges the libraries is what judges the framework.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from math import inf
from typing import Any

from benchmarks.peers.histories.playing import Shown
from fixtures.history.checker import check
from fixtures.history.model import Append, Event, History, LogRead, Outcome, StreamRead, Verdict

_NOWHERE = -1
"""The position of an event that a reader was shown and that is not in the log."""


@dataclass(slots=True)
class Judged:
    """What the runs of one library come to.

    Attributes:
        counts: Appends by outcome, events and reads, of all runs.
        found: For each run, how often each thing was wrong.
        examples: The first finding of each kind.
        reasons: What errors said that were no conflicts.
    """

    counts: Counter[str] = field(default_factory=Counter)
    found: list[Counter[Verdict]] = field(default_factory=list)
    examples: dict[Verdict, str] = field(default_factory=dict)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, played: dict[str, Any]) -> None:
        """Judge one more run."""
        history = history_of(played)
        findings = check(history)
        self.counts.update(append.outcome.value for append in history.appends)
        self.counts["events"] += len(history.log)
        self.counts["reads"] += len(history.reads)
        self.found.append(Counter(finding.verdict for finding in findings))
        for finding in findings:
            self.examples.setdefault(finding.verdict, finding.text)
        self.reasons.update(append.reason for append in history.appends if append.reason is not None)


def history_of(played: dict[str, Any]) -> History:
    """Return the history that a process has written.

    A library without a log is judged by its streams: its events get positions in an order that the calls allow, if
    there is one, so that whatever contradicts every such order is found all the same.
    """
    appends = [Append(**{**one, "outcome": Outcome(one["outcome"])}) for one in played["appends"]]
    reads: list[dict[str, Any]] = played["stream_reads"]
    shown = played["log"] if played["log"] is not None else _in_the_order_of_calls(reads, appends)
    log = [Event(*one) for one in shown]
    places = {(event.stream_id, event.version, event.event_id): event.position for event in log}

    def events(raw: Sequence[Sequence[Any]]) -> list[Event]:
        told = [Shown(*one) for one in raw]
        return [
            Event(places.get(one[1:], _NOWHERE) if one.position is None else one.position, *one[1:]) for one in told
        ]

    return History(
        appends=appends,
        log_reads=[LogRead(**{**one, "events": events(one["events"])}) for one in played["log_reads"]],
        stream_reads=[StreamRead(**{**one, "events": events(one["events"])}) for one in reads],
        log=log,
    )


def _in_the_order_of_calls(reads: Sequence[dict[str, Any]], appends: Sequence[Append]) -> list[Shown]:
    """Return the events that the last read of each stream showed, in an order that every correct store allows.

    An event comes where the latest call of its own append and of those before it in its stream is. Whatever was
    acknowledged before such a call comes before it, and versions ascend.
    """
    called = {token: append.called for append in appends for token in append.event_ids}
    last = {read["stream_id"]: [Shown(*one) for one in read["events"]] for read in reads}
    placed: list[tuple[float, Shown]] = []
    for events in last.values():
        moments = accumulate((called.get(event.token, -inf) for event in events), max)
        placed += zip(moments, events, strict=True)
    in_order = [event for _, event in sorted(placed, key=lambda one: (one[0], one[1].stream, one[1].version))]
    return [event._replace(position=position) for position, event in enumerate(in_order, 1)]
