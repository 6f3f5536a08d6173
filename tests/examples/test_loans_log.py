"""The whole log against the rules: every real row is possible, and what comes out is what is known of the log."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from examples.loans import events as e
from examples.loans.application import LoanApplication
from examples.loans.figures import PUBLISHED
from examples.loans.folding import fold
from examples.loans.rows import Row, read_rows
from examples.loans.state import State

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SMALL = 10_000


@pytest.fixture(scope="module")
def rows() -> Sequence[Row]:
    return list(read_rows())


@pytest.fixture(scope="module")
def applications(rows: Sequence[Row]) -> Mapping[str, LoanApplication]:
    """Every application after all its rows; nothing is saved, so all its events are pending."""
    applications: dict[str, LoanApplication] = {}
    for row in rows:
        application = applications.setdefault(row.application, LoanApplication(row.application, State()))
        row.run(application)
        assert len(application.pending) == row.step
    return applications


def test_every_row_is_one_command_that_the_rules_allow_and_one_event(
    rows: Sequence[Row], applications: Mapping[str, LoanApplication]
) -> None:
    assert len(rows) == sum(len(application.pending) for application in applications.values()) == 262_200
    assert len(applications) == 13_087


def test_the_outcomes_are_the_published_ones(applications: Mapping[str, LoanApplication]) -> None:
    outcomes = Counter(application.state.status for application in applications.values())
    approved = sum(application.state.approved for application in applications.values())
    assert (approved, outcomes["granted"], outcomes["declined"], outcomes["cancelled"]) == (2246, 2246, 7635, 2807)
    assert outcomes["finalized"] + outcomes["preaccepted"] + outcomes["accepted"] == 399


def test_each_kind_of_event_happens_as_often_as_its_rows(applications: Mapping[str, LoanApplication]) -> None:
    kinds = Counter(type(new.data) for application in applications.values() for new in application.pending)
    assert set(kinds) == set(LoanApplication.shape.models)
    assert kinds[e.WorkItemScheduled] == 26_318
    assert kinds[e.WorkItemStarted] == 71_376
    assert kinds[e.WorkItemCompleted] + kinds[e.WorkItemClosed] == 72_413
    assert kinds[e.OfferSelected] == kinds[e.OfferCreated] == kinds[e.OfferSent] == 7030


def test_a_work_item_completed_by_nobody_is_its_own_fact(applications: Mapping[str, LoanApplication]) -> None:
    events = [new.data for application in applications.values() for new in application.pending]
    closed = Counter(event.because for event in events if isinstance(event, e.WorkItemClosed))
    assert closed == {"completed before": 1032, "never started": 8}


def test_events_keep_the_times_of_their_rows(rows: Sequence[Row], applications: Mapping[str, LoanApplication]) -> None:
    for row in rows:
        assert applications[row.application].pending[row.step - 1].occurred_at == row.at


def test_folding_the_events_again_gives_the_same_state(applications: Mapping[str, LoanApplication]) -> None:
    for application in applications.values():
        state = State()
        for new in application.pending:
            state = LoanApplication.shape.evolve(state, new.data)
        assert state == application.state


def test_every_state_comes_back_from_its_snapshot(applications: Mapping[str, LoanApplication]) -> None:
    shape = LoanApplication.shape
    for application in applications.values():
        assert shape.load_state(shape.dump_state(application.state)) == application.state


def test_counting_the_rows_gives_the_published_figures(rows: Sequence[Row]) -> None:
    figures = fold(rows)
    assert {name: getattr(figures, name) for name in PUBLISHED} == PUBLISHED
    assert (figures.work_started, figures.work_completed, figures.work_closed) == (71_376, 71_373, 1040)


def test_the_small_log_is_the_first_ten_thousand_rows(rows: Sequence[Row]) -> None:
    small = list(read_rows(SMALL))
    assert small == list(rows[:SMALL])
    assert fold(small).applications == 789
