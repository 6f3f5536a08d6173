"""What a loan application is after its events: a small value, folded by one pure function."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

from pydantic import BaseModel, ConfigDict

from examples.loans import events as e

Status = Literal[
    "new",
    "submitted",
    "partly submitted",
    "preaccepted",
    "accepted",
    "finalized",
    "granted",
    "declined",
    "cancelled",
]
"""How far an application is. It is granted from the first of approved, registered and activated on."""


@dataclass(frozen=True, slots=True)
class Offer:
    """An offer that is still in play."""

    number: int
    stage: Literal["selected", "created", "sent", "sent back"]


@dataclass(frozen=True, slots=True)
class Work:
    """What has happened to one kind of work item."""

    scheduled: int = 0
    """How often it was put on the list."""
    in_progress: int = 0
    """How many people work on it now."""
    completed: int = 0
    """How many sessions of work on it have ended."""


NO_WORK = Work()


class State(BaseModel):
    """A loan application: only what a rule asks for, because every command loads it and snapshots store it."""

    model_config = ConfigDict(frozen=True)

    status: Status = "new"
    approved: bool = False
    registered: bool = False
    activated: bool = False
    offers: int = 0
    """How many offers there have been."""
    draft: Offer | None = None
    """The offer that is being prepared."""
    open_offer: Offer | None = None
    """The offer that the customer has: one at a time, a new one replaces it."""
    offer_accepted: bool = False
    work: dict[e.WorkItem, Work] = {}


def evolve(state: State, event: e.LoanEvent) -> State:  # noqa: C901, PLR0911, PLR0912 - one case for each event
    """Return the application after an event. No rules here: what has happened has happened."""
    match event:
        case e.WorkItemEvent():
            return _evolve_work(state, event)
        case e.OfferEvent():
            return _evolve_offers(state, event)
        case e.ApplicationSubmitted():
            return State(status="submitted")
        case e.ApplicationPartlySubmitted():
            return state.model_copy(update={"status": "partly submitted"})
        case e.ApplicationPreaccepted():
            return state.model_copy(update={"status": "preaccepted"})
        case e.ApplicationAccepted():
            return state.model_copy(update={"status": "accepted"})
        case e.ApplicationFinalized():
            return state.model_copy(update={"status": "finalized"})
        case e.ApplicationApproved():
            return state.model_copy(update={"status": "granted", "approved": True})
        case e.ApplicationRegistered():
            return state.model_copy(update={"status": "granted", "registered": True})
        case e.ApplicationActivated():
            return state.model_copy(update={"status": "granted", "activated": True})
        case e.ApplicationDeclined():
            return state.model_copy(update={"status": "declined"})
        case e.ApplicationCancelled():
            return state.model_copy(update={"status": "cancelled"})
        case _:
            assert_never(event)


def _evolve_offers(state: State, event: e.OfferChange) -> State:
    match event:
        case e.OfferSelected():
            return state.model_copy(update={"offers": event.offer, "draft": Offer(event.offer, "selected")})
        case e.OfferCreated():
            return state.model_copy(update={"draft": Offer(event.offer, "created")})
        case e.OfferSent():
            return state.model_copy(update={"draft": None, "open_offer": Offer(event.offer, "sent")})
        case e.OfferSentBack():
            return state.model_copy(update={"open_offer": Offer(event.offer, "sent back")})
        case e.OfferAccepted():
            return state.model_copy(update={"open_offer": None, "offer_accepted": True})
        case e.OfferCancelled() | e.OfferDeclined():
            return state.model_copy(update={"open_offer": None})
        case _:
            assert_never(event)


def _evolve_work(state: State, event: e.WorkChange) -> State:
    was = state.work.get(event.item, NO_WORK)
    match event:
        case e.WorkItemScheduled():
            work = Work(was.scheduled + 1, was.in_progress, was.completed)
        case e.WorkItemStarted():
            work = Work(was.scheduled, was.in_progress + 1, was.completed)
        case e.WorkItemCompleted():
            work = Work(was.scheduled, was.in_progress - 1, was.completed + 1)
        case e.WorkItemClosed():
            return state  # nobody was working on it, so nobody's work has ended
        case _:
            assert_never(event)
    return state.model_copy(update={"work": {**state.work, event.item: work}})
