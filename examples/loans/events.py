"""The facts of a loan application, as typed events.

One row of the log is one event. The log's names are Dutch bank jargon in capitals; the events say the same in plain
words, and the table below is the whole translation:

    A_SUBMITTED, A_PARTLYSUBMITTED, ...        ApplicationSubmitted, ApplicationPartlySubmitted, ...
    O_SELECTED, O_CREATED, O_SENT, ...         OfferSelected, OfferCreated, OfferSent, ...
    W_<item> SCHEDULE / START / COMPLETE       WorkItemScheduled / WorkItemStarted / WorkItemCompleted
    W_<item> COMPLETE, nobody working on it    WorkItemClosed, see there

Who did it (the log's `resource`) is the `actor` in an event's metadata, when it happened is its `occurred_at`, and its
number within the application (the log's `step`) is its `stream_version`; none of them is repeated in the data.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from eventstore import EventTypes

event_types = EventTypes()


class Event(BaseModel):
    """What all events have in common: a fact does not change."""

    model_config = ConfigDict(frozen=True)


# --- the application ---------------------------------------------------------------------------------------------


@event_types.register("ApplicationSubmitted")
class ApplicationSubmitted(Event):
    """A customer has asked for a loan."""

    amount_requested: Annotated[int, Field(ge=0)]
    """In euros. One customer asked for 0; that is what was asked, so it is recorded."""


@event_types.register("ApplicationPartlySubmitted")
class ApplicationPartlySubmitted(Event):
    """The first automatic checks were made; more information is needed."""


@event_types.register("ApplicationPreaccepted")
class ApplicationPreaccepted(Event):
    """The application is worth completing."""


@event_types.register("ApplicationAccepted")
class ApplicationAccepted(Event):
    """The application is complete and acceptable: offers can be chosen."""


@event_types.register("ApplicationFinalized")
class ApplicationFinalized(Event):
    """The application goes to the customer with an offer."""


@event_types.register("ApplicationApproved")
class ApplicationApproved(Event):
    """The loan is granted. Approved, registered and activated come in any order, each once."""


@event_types.register("ApplicationRegistered")
class ApplicationRegistered(Event):
    """The loan is in the books."""


@event_types.register("ApplicationActivated")
class ApplicationActivated(Event):
    """The loan is paid out."""


@event_types.register("ApplicationDeclined")
class ApplicationDeclined(Event):
    """The bank refuses the loan."""


@event_types.register("ApplicationCancelled")
class ApplicationCancelled(Event):
    """The customer does not want the loan, or has not answered for too long."""


# --- its offers: the log has no offer ids, so the aggregate numbers them from 1 --------------------------------------


class OfferEvent(Event):
    """Something happened to an offer."""

    offer: int
    """Which of the application's offers, from 1."""


@event_types.register("OfferSelected")
class OfferSelected(OfferEvent):
    """An offer was chosen for the customer."""


@event_types.register("OfferCreated")
class OfferCreated(OfferEvent):
    """The offer was written."""


@event_types.register("OfferSent")
class OfferSent(OfferEvent):
    """The offer was sent to the customer."""


@event_types.register("OfferSentBack")
class OfferSentBack(OfferEvent):
    """The customer has sent the offer back."""


@event_types.register("OfferAccepted")
class OfferAccepted(OfferEvent):
    """The offer stands: bank and customer agree."""


@event_types.register("OfferCancelled")
class OfferCancelled(OfferEvent):
    """The offer was withdrawn, for another one or with the application."""


@event_types.register("OfferDeclined")
class OfferDeclined(OfferEvent):
    """The offer was declined together with the application."""


# --- the work of the bank's employees ----------------------------------------------------------------------------


class WorkItem(StrEnum):
    """A kind of work, named as the bank names it."""

    HANDLE_LEAD = "Afhandelen leads"
    """Follow up an incomplete first submission."""
    COMPLETE_APPLICATION = "Completeren aanvraag"
    """Complete a preaccepted application."""
    CALL_ABOUT_OFFER = "Nabellen offertes"
    """Call the customer about an offer that was sent."""
    VALIDATE_APPLICATION = "Valideren aanvraag"
    """Assess the application once an offer has come back."""
    CALL_ABOUT_MISSING_DOCUMENTS = "Nabellen incomplete dossiers"
    """Ask for what is missing in the file."""
    ASSESS_FRAUD = "Beoordelen fraude"
    """Investigate a suspicion of fraud."""
    CHANGE_CONTRACT = "Wijzigen contractgegevens"
    """Change the contract. The log schedules it twelve times and never starts it."""


class WorkItemEvent(Event):
    """Something happened to a work item."""

    item: WorkItem


@event_types.register("WorkItemScheduled")
class WorkItemScheduled(WorkItemEvent):
    """Work was put on the list."""


@event_types.register("WorkItemStarted")
class WorkItemStarted(WorkItemEvent):
    """Somebody took it up: a session of work began. One item can take many sessions."""


@event_types.register("WorkItemCompleted")
class WorkItemCompleted(WorkItemEvent):
    """That session ended."""


@event_types.register("WorkItemClosed")
class WorkItemClosed(WorkItemEvent):
    """The item was completed while nobody was working on it: it was taken off the list.

    The log has 1,040 of these among its COMPLETE rows. All but 16 fall within a second of the end of their
    application, which sweeps its items off the list.
    """

    because: Literal["completed before", "never started"]
    """1,032 of them were completed a second time; 8 had been scheduled and never taken up."""


ApplicationChange = (
    ApplicationSubmitted
    | ApplicationPartlySubmitted
    | ApplicationPreaccepted
    | ApplicationAccepted
    | ApplicationFinalized
    | ApplicationApproved
    | ApplicationRegistered
    | ApplicationActivated
    | ApplicationDeclined
    | ApplicationCancelled
)
OfferChange = OfferSelected | OfferCreated | OfferSent | OfferSentBack | OfferAccepted | OfferCancelled | OfferDeclined
WorkChange = WorkItemScheduled | WorkItemStarted | WorkItemCompleted | WorkItemClosed

LoanEvent = ApplicationChange | OfferChange | WorkChange
"""Everything that can happen to a loan application."""
