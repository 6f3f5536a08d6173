"""Each verdict of the checker on a history written by hand: what is right passes, and one wrong thing is found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from fixtures.history.judging import verdicts
from fixtures.history.model import ANY, EXISTS, Append, Event, History, LogRead, Outcome, StreamRead, Verdict

A1 = Event(1, "a", 1, "a1")
B1 = Event(2, "b", 1, "b1")
A2 = Event(3, "a", 2, "a2")


def append(event: Event, called: float, answered: float, **changes: Any) -> Append:
    """Return an acknowledged append of one event."""
    acknowledged = Append(
        event.stream_id,
        [event.event_id],
        event.version - 1,
        called,
        answered,
        Outcome.ACKNOWLEDGED,
        first_version=event.version,
        position=event.position,
        over=answered,
    )
    return replace(acknowledged, **changes)


def refused(event: Event, called: float, answered: float, outcome: Outcome, **changes: Any) -> Append:
    """Return an append that was told that it is not there."""
    nothing = {"first_version": None, "position": None, "outcome": outcome}
    return append(event, called, answered, **(nothing | changes))


def history(**changes: Any) -> History:
    """Return a history of three appends, a follower and two reads of a stream; nothing is wrong with it."""
    right = History(
        appends=[append(A1, 1, 4), append(B1, 2, 5), append(A2, 6, 8)],
        log_reads=[
            LogRead("follower", 2, 3, []),
            LogRead("follower", 5.5, 7, [A1, B1], drained=False),
            LogRead("follower", 9, 10, [A2], drained=False),
            LogRead("follower", 11, 12, []),
        ],
        stream_reads=[StreamRead("a", 4.5, 5.5, [A1]), StreamRead("a", 9, 10, [A1, A2])],
        log=[A1, B1, A2],
        quiet=[8.5],
    )
    return replace(right, **changes)


def followed(*reads: LogRead) -> set[Verdict]:
    return verdicts(history(log_reads=list(reads)))


def written(*appends: Append, log: list[Event]) -> set[Verdict]:
    return verdicts(History(appends=list(appends), log=log))


def test_a_correct_history_passes() -> None:
    assert verdicts(history()) == set()
    assert verdicts(History()) == set()


# --- the log in the end ----------------------------------------------------------------------------------------------


def test_an_acknowledged_event_that_is_not_there_is_lost() -> None:
    assert written(append(A1, 1, 2), append(B1, 3, 4), log=[A1]) == {Verdict.LOST}


def test_an_unknown_outcome_may_be_there_or_not() -> None:
    unknown = refused(A1, 1, 2, Outcome.UNKNOWN)
    assert written(unknown, log=[]) == set()
    assert written(unknown, log=[A1]) == set()


def test_an_event_that_is_there_twice_is_doubled() -> None:
    again = A1._replace(position=3, version=2)
    assert Verdict.DOUBLED in written(append(A1, 1, 2), log=[A1, again])


def test_a_version_or_position_that_is_given_twice_is_doubled() -> None:
    same_version = A2._replace(version=1)
    same_position = B1._replace(position=1)
    assert Verdict.DOUBLED in written(append(A1, 1, 2), append(same_version, 1, 2), log=[A1, same_version])
    assert Verdict.DOUBLED in written(append(A1, 1, 2), append(same_position, 1, 2), log=[A1, same_position])


def test_positions_that_do_not_follow_versions_are_out_of_order() -> None:
    first, second = A1._replace(position=2), A2._replace(position=1)
    assert written(append(first, 1, 4), append(second, 2, 5), log=[second, first]) == {Verdict.OUT_OF_ORDER}


def test_a_call_after_an_acknowledgement_comes_after_it_in_the_log() -> None:
    assert written(append(B1, 1, 2), append(A1, 3, 4), log=[A1, B1]) == {Verdict.OUT_OF_ORDER}
    assert written(append(B1, 1, 3), append(A1, 2, 4), log=[A1, B1]) == set()


@pytest.mark.parametrize("outcome", [Outcome.ABORTED, Outcome.CONFLICT, Outcome.REFUSED])
def test_an_event_that_is_there_though_its_writer_was_told_otherwise_is_a_phantom(outcome: Outcome) -> None:
    assert Verdict.PHANTOM in written(refused(A1, 1, 2, outcome, actual=7), log=[A1])


def test_an_event_that_nobody_appended_is_a_phantom() -> None:
    assert written(log=[A1]) == {Verdict.PHANTOM}


def test_a_missing_version_is_a_gap() -> None:
    later = A2._replace(version=3)
    assert written(append(A1, 1, 2), append(later, 1, 2, expected=ANY), log=[A1, later]) == {Verdict.VERSION_GAP}


def test_a_part_of_an_append_is_torn() -> None:
    both = refused(A1, 1, 2, Outcome.UNKNOWN, event_ids=["a1", "a2"])
    assert written(both, log=[A1]) == {Verdict.TORN}
    assert written(both, log=[A1, A2]) == set()


def test_an_append_with_another_ones_event_inside_is_torn() -> None:
    last = A2._replace(position=4, version=3, event_id="a3")
    both = append(A1, 1, 2, event_ids=["a1", "a3"], position=4)
    assert written(both, append(A2, 1, 2, expected=ANY), log=[A1, A2, last]) == {Verdict.TORN}


def test_a_part_of_a_transaction_is_torn() -> None:
    one = refused(A1, 1, 3, Outcome.UNKNOWN, transaction="t")
    two = refused(B1, 2, 3, Outcome.UNKNOWN, transaction="t")
    conflict = refused(A2, 2, 2.5, Outcome.CONFLICT, transaction="t", actual=0)
    assert written(one, two, conflict, log=[A1]) == {Verdict.TORN}
    assert written(one, two, conflict, log=[A1, B1]) == set()
    assert written(one, two, conflict, log=[]) == set()


# --- what writers were told ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lie", [{"first_version": 2}, {"position": 9}])
def test_an_acknowledgement_that_names_another_place_is_untrue(lie: dict[str, int]) -> None:
    assert written(append(A1, 1, 2, **lie), log=[A1]) == {Verdict.UNTRUE}


@pytest.mark.parametrize("expected", [1, EXISTS])
def test_an_append_that_got_in_though_its_expectation_was_wrong_is_untrue(expected: int) -> None:
    assert written(append(A1, 1, 2, expected=expected), log=[A1]) == {Verdict.UNTRUE}


def test_a_conflict_over_a_version_that_the_stream_had_has_a_cause() -> None:
    assert written(append(A1, 1, 2), refused(A2, 3, 4, Outcome.CONFLICT, expected=0, actual=1), log=[A1]) == set()


def test_a_conflict_of_an_append_that_expects_anything_has_no_cause() -> None:
    conflict = refused(A2, 3, 4, Outcome.CONFLICT, expected=ANY, actual=1)
    assert written(append(A1, 1, 2), conflict, log=[A1]) == {Verdict.NO_CAUSE}


@pytest.mark.parametrize("expected", [1, EXISTS])
def test_a_conflict_over_the_very_version_that_was_expected_has_no_cause(expected: int) -> None:
    conflict = refused(A2, 3, 4, Outcome.CONFLICT, expected=expected, actual=1)
    assert written(append(A1, 1, 2), conflict, log=[A1]) == {Verdict.NO_CAUSE}


def test_another_refusal_has_no_cause() -> None:
    assert written(refused(A1, 1, 2, Outcome.REFUSED), log=[]) == {Verdict.NO_CAUSE}


@pytest.mark.parametrize(("called", "answered", "actual"), [(3, 4, 0), (1, 2, 2), (7, 9, 3)])
def test_a_conflict_over_a_version_of_another_time_is_untrue(called: float, answered: float, actual: int) -> None:
    """The stream is at 1 from before 3, and at 2 from after 5."""
    conflict = refused(A2, called, answered, Outcome.CONFLICT, event_ids=["no"], expected=7, actual=actual)
    appends = [append(A1, 1, 2), append(A2, 5, 6)]
    assert written(*appends, conflict, log=[A1, A2]) == {Verdict.UNTRUE}


# --- what readers were shown -----------------------------------------------------------------------------------------


def test_a_follower_that_has_passed_an_event_has_skipped_it() -> None:
    assert followed(LogRead("f", 5.5, 7, [B1], drained=False)) == {Verdict.SKIPPED}


def test_a_follower_that_is_shown_an_event_twice_has_it_doubled() -> None:
    again = LogRead("f", 5.5, 6, [A1], drained=False), LogRead("f", 6.5, 7, [A1], drained=False)
    assert followed(*again) == {Verdict.DOUBLED}


def test_a_follower_that_is_shown_a_later_position_first_is_out_of_order() -> None:
    assert followed(LogRead("f", 5.5, 7, [B1, A1], drained=False)) == {Verdict.OUT_OF_ORDER}


def test_a_reader_that_is_shown_a_later_version_first_is_out_of_order() -> None:
    backwards = StreamRead("a", 9, 10, [A2, A1])
    assert verdicts(history(stream_reads=[backwards])) == {Verdict.OUT_OF_ORDER}


def test_a_reader_that_is_shown_what_is_not_there_in_the_end_has_seen_a_phantom() -> None:
    undone = Event(4, "c", 1, "c1")
    rolled_back = refused(undone, 6, 20, Outcome.ABORTED)
    appends = [*history().appends, rolled_back]
    in_the_log = LogRead("f", 9, 10, [A1, B1, A2, undone])
    in_the_stream = StreamRead("c", 9, 10, [undone])
    assert Verdict.PHANTOM in verdicts(history(appends=appends, log_reads=[in_the_log]))
    assert Verdict.PHANTOM in verdicts(history(appends=appends, stream_reads=[in_the_stream]))
    assert verdicts(history(appends=appends)) == set()


def test_a_stream_read_that_leaves_a_version_out_has_a_gap() -> None:
    assert Verdict.VERSION_GAP in verdicts(history(stream_reads=[StreamRead("a", 9, 10, [A2])]))


def test_a_stream_read_that_began_after_an_acknowledgement_shows_the_event() -> None:
    assert verdicts(history(stream_reads=[StreamRead("a", 8.5, 9, [A1])])) == {Verdict.STALE}
    assert verdicts(history(stream_reads=[StreamRead("a", 7.5, 9, [A1])])) == set()


def test_a_read_that_began_after_another_one_showed_an_event_shows_it_too() -> None:
    """Though nobody was told yet that it is there."""
    early = StreamRead("a", 6.5, 7, [A1, A2])
    assert verdicts(history(stream_reads=[early, StreamRead("a", 7.5, 9, [A1])])) == {Verdict.STALE}
    assert verdicts(history(stream_reads=[early, StreamRead("a", 6.8, 9, [A1])])) == set()


def test_a_drained_follower_has_what_was_acknowledged_before_it_asked() -> None:
    assert followed(LogRead("f", 8.2, 10, [A1, B1])) == {Verdict.STALE}
    assert followed(LogRead("f", 7.5, 10, [A1, B1])) == set()


def test_a_page_is_not_everything() -> None:
    assert followed(LogRead("f", 8.2, 10, [A1, B1], drained=False)) == set()


def test_a_follower_that_goes_quiet_below_the_end_is_stale() -> None:
    assert followed(LogRead("f", 5.5, 7, [A1, B1]), LogRead("f", 100, 101, [])) == {Verdict.STALE}


def test_a_writer_that_began_before_an_event_was_acknowledged_excuses_a_follower_that_stays_below() -> None:
    open_since_1 = refused(Event(9, "c", 1, "c1"), 1, 20, Outcome.ABORTED, over=20)
    late = LogRead("f", 8.2, 10, [])
    assert verdicts(history(appends=[*history().appends, open_since_1], log_reads=[late], quiet=[])) == set()


def test_a_writer_that_began_after_an_event_was_acknowledged_excuses_nobody() -> None:
    open_since_8_1 = refused(Event(9, "c", 1, "c1"), 8.1, 20, Outcome.ABORTED, over=20)
    late = LogRead("f", 8.2, 10, [A1, B1])
    appends = [*history().appends, open_since_8_1]
    assert verdicts(history(appends=appends, log_reads=[late], quiet=[])) == {Verdict.STALE}


def test_a_writer_that_is_over_excuses_nobody_any_more() -> None:
    unknown = refused(Event(9, "c", 1, "c1"), 1, 7, Outcome.UNKNOWN, over=float("inf"))
    late = LogRead("f", 9, 10, [A1, B1])
    appends = [*history().appends, unknown]
    assert verdicts(history(appends=appends, log_reads=[late], quiet=[])) == set()
    assert verdicts(history(appends=appends, log_reads=[late], quiet=[8.5])) == {Verdict.STALE}


def test_what_was_settled_for_one_follower_is_settled_for_all_whoever_is_open() -> None:
    open_since_1 = refused(Event(9, "c", 1, "c1"), 1, 20, Outcome.ABORTED, over=20)
    reads = [LogRead("f", 5.5, 7, [A1, B1]), LogRead("g", 8, 9, [])]
    appends = [*history().appends, open_since_1]
    assert verdicts(history(appends=appends, log_reads=reads, quiet=[])) == {Verdict.STALE}
