"""Whatever a log does that is right by construction, the checker passes; whatever is then changed, it finds."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import get_args

from hypothesis import given
from hypothesis import strategies as st

from fixtures.history.judging import verdicts
from fixtures.history.model import Event, History, Outcome, Verdict
from fixtures.history.simulated import Move, Simulation

WHAT = get_args(get_args(Move)[0])
BEGINNING: list[Move] = [("begin", 0, 1), ("commit", 0, 0), ("begin", 1, 0), ("abort", 1, 0)]
"""Something to change is in every eventful history."""

moves = st.lists(st.tuples(st.sampled_from(WHAT), st.integers(0, 2), st.integers(0, 5)), max_size=60)
histories = moves.map(lambda played: Simulation().play(played))
eventful = moves.map(lambda played: Simulation().play([*BEGINNING, *played]))
chances = st.randoms(use_true_random=False)


@given(history=histories)
def test_a_correct_history_passes_whatever_happened(history: History) -> None:
    assert verdicts(history) == set()


@given(history=histories, chance=chances)
def test_the_order_in_which_a_history_was_written_down_does_not_matter(history: History, chance: random.Random) -> None:
    shuffled = replace(
        history,
        appends=chance.sample(history.appends, len(history.appends)),
        stream_reads=chance.sample(history.stream_reads, len(history.stream_reads)),
        log=chance.sample(list(history.log), len(history.log)),
    )
    assert verdicts(shuffled) == set()


@given(history=eventful, chance=chances)
def test_any_acknowledged_event_that_vanishes_is_lost(history: History, chance: random.Random) -> None:
    gone = chance.choice(acknowledged(history))
    assert Verdict.LOST in verdicts(replace(history, log=[event for event in history.log if event != gone]))


@given(history=eventful, chance=chances)
def test_any_event_that_is_withheld_from_a_follower_is_missed(history: History, chance: random.Random) -> None:
    """It has skipped it, or, when it was the last one, it is stale; one whose answer was lost may be still to come."""
    withheld = chance.choice(acknowledged(history))
    reads = [replace(read, events=[one for one in read.events if one != withheld]) for read in history.log_reads]
    assert verdicts(replace(history, log_reads=reads)) & {Verdict.SKIPPED, Verdict.STALE}


@given(history=eventful, chance=chances)
def test_any_event_that_a_follower_is_shown_again_is_doubled(history: History, chance: random.Random) -> None:
    again = chance.choice(list(history.log))
    last = history.log_reads[-1]
    reads = [*history.log_reads, replace(last, begun=last.ended + 1, ended=last.ended + 2, events=[again])]
    assert Verdict.DOUBLED in verdicts(replace(history, log_reads=reads))


@given(history=eventful, chance=chances)
def test_any_two_events_that_change_places_are_out_of_order(history: History, chance: random.Random) -> None:
    pairs = [(one, two) for one in history.log for two in history.log if one.stream_id == two.stream_id and one < two]
    one, two = chance.choice(pairs)
    changed = {one: one._replace(position=two.position), two: two._replace(position=one.position)}
    assert Verdict.OUT_OF_ORDER in verdicts(replace(history, log=[changed.get(event, event) for event in history.log]))


@given(history=eventful, chance=chances)
def test_anything_that_was_rolled_back_and_is_there_is_a_phantom(history: History, chance: random.Random) -> None:
    aborted = [append for append in history.appends if append.outcome is Outcome.ABORTED]
    append = chance.choice(aborted)
    risen = Event(10_000, append.stream_id, 10_000, append.event_ids[0])
    assert Verdict.PHANTOM in verdicts(replace(history, log=[*history.log, risen]))


@given(history=eventful, chance=chances)
def test_any_last_event_that_a_stream_read_leaves_out_makes_it_stale(history: History, chance: random.Random) -> None:
    ended = [read for read in history.stream_reads[-3:] if read.events]
    read = chance.choice(ended)
    reads = [replace(one, events=one.events[:-1]) if one is read else one for one in history.stream_reads]
    assert Verdict.STALE in verdicts(replace(history, stream_reads=reads))


def acknowledged(history: History) -> list[Event]:
    ids = {one for append in history.appends if append.outcome is Outcome.ACKNOWLEDGED for one in append.event_ids}
    return [event for event in history.log if event.event_id in ids]
