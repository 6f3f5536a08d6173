"""What may follow what: commands that an application's state does not allow are refused, and change nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from examples.loans import events as e
from examples.loans.application import LoanApplication, RefusedError
from examples.loans.events import WorkItem
from examples.loans.state import State

if TYPE_CHECKING:
    from collections.abc import Callable


TO_FINALIZED = (
    lambda a: a.submit(20_000),
    LoanApplication.partly_submit,
    LoanApplication.preaccept,
    LoanApplication.accept,
    LoanApplication.finalize,
)
SEND_OFFER = (LoanApplication.select_offer, LoanApplication.create_offer, LoanApplication.send_offer)


def application(*commands: Callable[[LoanApplication], None]) -> LoanApplication:
    """Return an application after some commands."""
    new = LoanApplication("1", State())
    for command in commands:
        command(new)
    return new


def refused(given: LoanApplication, command: Callable[[LoanApplication], None]) -> str:
    """Return the rule by which the command is refused."""
    before = given.state, given.pending
    with pytest.raises(RefusedError) as refusal:
        command(given)
    assert (given.state, given.pending) == before
    assert (refusal.value.application, refusal.value.status) == ("1", given.state.status)
    return refusal.value.rule


def finalized(*commands: Callable[[LoanApplication], None]) -> LoanApplication:
    return application(*TO_FINALIZED, *commands)


def with_offer(*commands: Callable[[LoanApplication], None]) -> LoanApplication:
    return finalized(*SEND_OFFER, *commands)


# --- the application ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("so_far", range(len(TO_FINALIZED)))
def test_an_application_goes_its_way_step_by_step(so_far: int) -> None:
    given = application(*TO_FINALIZED[:so_far])
    for number, command in enumerate(TO_FINALIZED):
        if number != so_far:
            refused(given, command)
    TO_FINALIZED[so_far](given)


def test_nothing_happens_to_an_application_that_was_not_submitted() -> None:
    for command in (
        LoanApplication.partly_submit,
        LoanApplication.decline,
        LoanApplication.cancel,
        LoanApplication.approve,
        LoanApplication.select_offer,
        lambda a: a.schedule(WorkItem.ASSESS_FRAUD),
        lambda a: a.start(WorkItem.ASSESS_FRAUD),
        lambda a: a.complete(WorkItem.ASSESS_FRAUD),
    ):
        refused(application(), command)


@pytest.mark.parametrize("end", [LoanApplication.decline, LoanApplication.cancel])
def test_what_was_declined_or_cancelled_is_over(end: Callable[[LoanApplication], None]) -> None:
    over = with_offer(end)
    for command in (
        LoanApplication.approve,
        LoanApplication.register,
        LoanApplication.activate,
        LoanApplication.decline,
        LoanApplication.cancel,
        LoanApplication.select_offer,
        LoanApplication.accept_offer,
        LoanApplication.take_offer_back,
        lambda a: a.schedule(WorkItem.CALL_ABOUT_OFFER),
    ):
        refused(over, command)


def test_a_loan_is_granted_in_any_order_and_each_step_once() -> None:
    given = with_offer(LoanApplication.activate, LoanApplication.approve, LoanApplication.register)
    assert given.state.status == "granted"
    assert refused(given, LoanApplication.approve) == "it is approved once"
    assert refused(given, LoanApplication.register) == "it is registered once"
    assert refused(given, LoanApplication.activate) == "it is activated once"


def test_a_granted_loan_is_neither_declined_nor_cancelled() -> None:
    refused(with_offer(LoanApplication.approve), LoanApplication.decline)
    refused(with_offer(LoanApplication.register), LoanApplication.cancel)


def test_no_loan_is_granted_without_an_offer() -> None:
    assert refused(finalized(), LoanApplication.approve) == "a loan is granted on an offer"
    with_offer(LoanApplication.accept_offer, LoanApplication.approve)


def test_after_an_offer_was_accepted_the_application_can_only_be_granted() -> None:
    accepted = with_offer(LoanApplication.accept_offer)
    for command in (LoanApplication.decline, LoanApplication.cancel, LoanApplication.select_offer):
        refused(accepted, command)


# --- offers ------------------------------------------------------------------------------------------------------


def test_offers_are_numbered_and_a_new_one_replaces_the_old_one() -> None:
    given = with_offer(LoanApplication.take_offer_back, LoanApplication.select_offer)
    assert refused(given, LoanApplication.create_offer) == "the older offer must be cancelled first"
    given.cancel_offer()
    given.create_offer()
    assert [new.data for new in given.pending[-3:]] == [
        e.OfferSelected(offer=2),
        e.OfferCancelled(offer=1),
        e.OfferCreated(offer=2),
    ]


def test_an_offer_is_selected_created_and_sent_in_this_order() -> None:
    assert refused(finalized(), LoanApplication.create_offer) == "no offer has just been selected"
    assert refused(finalized(LoanApplication.select_offer), LoanApplication.send_offer) == (
        "no offer has just been created"
    )
    refused(finalized(LoanApplication.select_offer), LoanApplication.select_offer)


def test_only_an_offer_that_was_sent_comes_back_and_it_comes_back_once() -> None:
    assert refused(finalized(), LoanApplication.take_offer_back) == "the customer has no offer"
    refused(with_offer(LoanApplication.take_offer_back), LoanApplication.take_offer_back)


def test_the_end_of_an_application_takes_its_offer_along() -> None:
    assert with_offer(LoanApplication.cancel, LoanApplication.cancel_offer).state.open_offer is None
    assert with_offer(LoanApplication.decline, LoanApplication.decline_offer).state.open_offer is None
    refused(with_offer(LoanApplication.cancel), LoanApplication.decline_offer)
    refused(with_offer(LoanApplication.decline), LoanApplication.cancel_offer)
    refused(with_offer(LoanApplication.approve), LoanApplication.cancel_offer)


# --- work --------------------------------------------------------------------------------------------------------

CALL = WorkItem.CALL_ABOUT_OFFER


def test_work_is_scheduled_then_started_then_completed() -> None:
    given = with_offer()
    refused(given, lambda a: a.start(CALL))
    refused(given, lambda a: a.complete(CALL))
    given.schedule(CALL)
    given.start(CALL)
    given.complete(CALL)
    assert given.pending[-1].data == e.WorkItemCompleted(item=CALL)


def test_an_item_takes_several_sessions_but_one_at_a_time() -> None:
    given = with_offer(lambda a: a.schedule(CALL), lambda a: a.start(CALL))
    assert refused(given, lambda a: a.start(CALL)) == "it is being worked on"
    given.complete(CALL)
    given.start(CALL)


def test_an_item_scheduled_twice_can_be_worked_on_by_two() -> None:
    given = with_offer(lambda a: a.schedule(CALL), lambda a: a.schedule(CALL))
    given.start(CALL)
    given.start(CALL)
    refused(given, lambda a: a.start(CALL))


def test_completing_what_nobody_works_on_closes_it() -> None:
    given = with_offer(lambda a: a.schedule(CALL), lambda a: a.complete(CALL))
    assert given.pending[-1].data == e.WorkItemClosed(item=CALL, because="never started")
    given.start(CALL)
    given.complete(CALL)
    given.complete(CALL)
    assert given.pending[-1].data == e.WorkItemClosed(item=CALL, because="completed before")


def test_work_that_is_under_way_can_be_completed_after_the_decision_and_no_other_be_started() -> None:
    given = with_offer(lambda a: a.schedule(CALL), lambda a: a.start(CALL), LoanApplication.decline)
    given.complete(CALL)
    assert refused(given, lambda a: a.start(CALL)) == "nothing is started on a declined application"


def test_work_belongs_to_its_stage() -> None:
    refused(finalized(), lambda a: a.schedule(WorkItem.HANDLE_LEAD))
    refused(application(*TO_FINALIZED[:2]), lambda a: a.schedule(CALL))
    with_offer(LoanApplication.approve, lambda a: a.schedule(WorkItem.CHANGE_CONTRACT))


def test_an_application_is_validated_once_its_offer_is_back() -> None:
    assert refused(with_offer(), lambda a: a.schedule(WorkItem.VALIDATE_APPLICATION)) == "an offer must be back first"
    with_offer(LoanApplication.take_offer_back, lambda a: a.schedule(WorkItem.VALIDATE_APPLICATION))


# --- events ------------------------------------------------------------------------------------------------------


def test_an_event_keeps_the_business_time_of_its_command() -> None:
    at = datetime(2011, 10, 1, 12, tzinfo=UTC)
    given = application(lambda a: a.submit(5000, at))
    assert [(new.data, new.occurred_at) for new in given.pending] == [
        (e.ApplicationSubmitted(amount_requested=5000), at)
    ]
