"""The rules: what may follow what. `LoanApplication` decides; it refuses what its state does not allow.

The rules are the bank's own as far as 262,200 rows show them: not one row breaks them, and whatever a row cannot do, a
command cannot. Real rows are not clean, so some rules are wider than one would draw them on a board:

* **A work item completed twice** (1,032 rows), or completed without ever being started (8): nothing is wrong and
  nothing may get lost, but nobody worked. It becomes `WorkItemClosed`, and is not counted as work.
* **A work item started again** after it was completed, without being scheduled again (47,316 rows): COMPLETE ends a
  session of work, not the item. Two people work on an item at once only if it was scheduled twice (3 rows).
* **A work item scheduled again** (4,165 rows), even while somebody works on it (1,810): each new offer schedules its
  own call.
* **Completed after the decision** (8,407 rows): the decision falls while somebody works on the item.
* **Started after the loan was granted or the application cancelled** (72 rows): calls that were under way. Never after
  it was declined; and nothing new is scheduled once it is over, but for changes of a contract.
* **Registered or activated before it was approved** (1,191 of 2,246): the three come in any order, within a second.
* **An offer accepted without being sent back** (130), or only after the loan was granted (998), or never, though the
  loan was granted on it (3).
* **A new offer selected before the old one is cancelled** (974), but none is created before that.
* **An offer cancelled or declined after its application was** (870 and 383): the application takes its offer along.
* **No employee** (18,010 rows): the event has no actor. **An amount of 0** (1 row): it is what was asked for.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final, TypeAlias

from eventstore import Aggregate
from examples.loans import events as e
from examples.loans.state import NO_WORK, Offer, State, Status, evolve

BusinessTime: TypeAlias = datetime | None
"""When it happened in the world; None for now."""

UNDECIDED: Final[tuple[Status, ...]] = ("partly submitted", "preaccepted", "accepted", "finalized")

SCHEDULED_WHILE: Final[dict[e.WorkItem, tuple[Status, ...]]] = {
    e.WorkItem.HANDLE_LEAD: ("partly submitted",),
    e.WorkItem.COMPLETE_APPLICATION: ("partly submitted", "preaccepted"),
    e.WorkItem.CALL_ABOUT_OFFER: ("finalized",),
    e.WorkItem.VALIDATE_APPLICATION: ("finalized",),
    e.WorkItem.CALL_ABOUT_MISSING_DOCUMENTS: ("finalized",),
    e.WorkItem.ASSESS_FRAUD: UNDECIDED,
    e.WorkItem.CHANGE_CONTRACT: ("finalized", "granted"),
}
"""Which work makes sense how far into an application."""


class RefusedError(Exception):
    """A command that the application's state does not allow; nothing happened."""

    def __init__(self, application: str, status: Status, rule: str) -> None:
        self.application = application
        self.status = status
        self.rule = rule
        super().__init__(f"application {application} ({status}) refuses: {rule}")


class LoanApplication(Aggregate[State, e.LoanEvent], category="application"):
    """One customer's application for a loan."""

    evolve = staticmethod(evolve)

    # --- the application's own way: submitted ... finalized, then granted, declined or cancelled ---------------------

    def submit(self, amount_requested: int, at: BusinessTime = None) -> None:
        """Ask for a loan."""
        self._require("an application is submitted once", self.state.status == "new")
        self.emit(e.ApplicationSubmitted(amount_requested=amount_requested), occurred_at=at)

    def partly_submit(self, at: BusinessTime = None) -> None:
        """Let it in after the first checks."""
        self._require("only a new submission is checked", self.state.status == "submitted")
        self.emit(e.ApplicationPartlySubmitted(), occurred_at=at)

    def preaccept(self, at: BusinessTime = None) -> None:
        """Find it worth completing."""
        self._require("only a checked submission is preaccepted", self.state.status == "partly submitted")
        self.emit(e.ApplicationPreaccepted(), occurred_at=at)

    def accept(self, at: BusinessTime = None) -> None:
        """Find it complete and acceptable."""
        self._require("it is accepted after it was preaccepted", self.state.status == "preaccepted")
        self.emit(e.ApplicationAccepted(), occurred_at=at)

    def finalize(self, at: BusinessTime = None) -> None:
        """Send it to the customer."""
        self._require("it is finalized after it was accepted", self.state.status == "accepted")
        self.emit(e.ApplicationFinalized(), occurred_at=at)

    def approve(self, at: BusinessTime = None) -> None:
        """Grant the loan."""
        self._require_grantable()
        self._require("it is approved once", not self.state.approved)
        self.emit(e.ApplicationApproved(), occurred_at=at)

    def register(self, at: BusinessTime = None) -> None:
        """Put the granted loan in the books."""
        self._require_grantable()
        self._require("it is registered once", not self.state.registered)
        self.emit(e.ApplicationRegistered(), occurred_at=at)

    def activate(self, at: BusinessTime = None) -> None:
        """Pay the granted loan out."""
        self._require_grantable()
        self._require("it is activated once", not self.state.activated)
        self.emit(e.ApplicationActivated(), occurred_at=at)

    def decline(self, at: BusinessTime = None) -> None:
        """Refuse the loan."""
        self._require("only an undecided application is declined", self.state.status in UNDECIDED)
        self._require("nothing is declined on an accepted offer", not self.state.offer_accepted)
        self.emit(e.ApplicationDeclined(), occurred_at=at)

    def cancel(self, at: BusinessTime = None) -> None:
        """Give the application up."""
        self._require("only an undecided application is cancelled", self.state.status in UNDECIDED)
        self._require("nothing is cancelled on an accepted offer", not self.state.offer_accepted)
        self.emit(e.ApplicationCancelled(), occurred_at=at)

    # --- its offers: selected, created, sent; then sent back, accepted, cancelled or declined ------------------------

    def select_offer(self, at: BusinessTime = None) -> None:
        """Choose an offer; the customer may still have an older one."""
        self._require("offers are for accepted applications", self.state.status in ("accepted", "finalized"))
        self._require("one offer is prepared at a time", self.state.draft is None)
        self._require("an offer was accepted already", not self.state.offer_accepted)
        self.emit(e.OfferSelected(offer=self.state.offers + 1), occurred_at=at)

    def create_offer(self, at: BusinessTime = None) -> None:
        """Write the offer that was selected."""
        draft = self._draft("selected")
        self._require("offers are written when the application is finalized", self.state.status == "finalized")
        self._require("the older offer must be cancelled first", self.state.open_offer is None)
        self.emit(e.OfferCreated(offer=draft.number), occurred_at=at)

    def send_offer(self, at: BusinessTime = None) -> None:
        """Send the offer that was written."""
        draft = self._draft("created")
        self._require("offers are sent while the application is undecided", self.state.status == "finalized")
        self.emit(e.OfferSent(offer=draft.number), occurred_at=at)

    def take_offer_back(self, at: BusinessTime = None) -> None:
        """Receive the offer that the customer has sent back."""
        offer = self._open_offer()
        self._require("an offer is sent back once", offer.stage == "sent")
        self._require("offers come back while the application is undecided", self.state.status == "finalized")
        self.emit(e.OfferSentBack(offer=offer.number), occurred_at=at)

    def accept_offer(self, at: BusinessTime = None) -> None:
        """Agree on the open offer, before or after the loan is granted."""
        offer = self._open_offer()
        self._require("the application was given up", self.state.status in ("finalized", "granted"))
        self.emit(e.OfferAccepted(offer=offer.number), occurred_at=at)

    def cancel_offer(self, at: BusinessTime = None) -> None:
        """Withdraw the open offer."""
        offer = self._open_offer()
        self._require("the offer was decided on", self.state.status in ("finalized", "cancelled"))
        self.emit(e.OfferCancelled(offer=offer.number), occurred_at=at)

    def decline_offer(self, at: BusinessTime = None) -> None:
        """Decline the open offer."""
        offer = self._open_offer()
        self._require("the offer was decided on", self.state.status in ("finalized", "declined"))
        self.emit(e.OfferDeclined(offer=offer.number), occurred_at=at)

    # --- the work on it ------------------------------------------------------------------------------------------

    def schedule(self, item: e.WorkItem, at: BusinessTime = None) -> None:
        """Put work on the list; the same item may be on it already."""
        self._require("this work belongs to another stage", self.state.status in SCHEDULED_WHILE[item])
        if item is e.WorkItem.VALIDATE_APPLICATION:
            offer = self.state.open_offer
            self._require("an offer must be back first", offer is not None and offer.stage == "sent back")
        self.emit(e.WorkItemScheduled(item=item), occurred_at=at)

    def start(self, item: e.WorkItem, at: BusinessTime = None) -> None:
        """Begin a session of work on an item that was scheduled; the first, or one more."""
        work = self.state.work.get(item, NO_WORK)
        self._require("work is started after it was scheduled", work.scheduled > 0)
        self._require("it is being worked on", work.in_progress < work.scheduled)
        self._require("nothing is started on a declined application", self.state.status != "declined")
        self.emit(e.WorkItemStarted(item=item), occurred_at=at)

    def complete(self, item: e.WorkItem, at: BusinessTime = None) -> None:
        """End a session of work; when nobody works on the item, take it off the list."""
        work = self.state.work.get(item, NO_WORK)
        self._require("work is completed after it was scheduled", work.scheduled > 0)
        if work.in_progress:
            self.emit(e.WorkItemCompleted(item=item), occurred_at=at)
        elif work.completed:
            self.emit(e.WorkItemClosed(item=item, because="completed before"), occurred_at=at)
        else:
            self.emit(e.WorkItemClosed(item=item, because="never started"), occurred_at=at)

    # --- what the rules share --------------------------------------------------------------------------------------

    def _require(self, rule: str, holds: bool) -> None:
        if not holds:
            raise RefusedError(self.key, self.state.status, rule)

    def _require_grantable(self) -> None:
        self._require("only a finalized application is granted", self.state.status in ("finalized", "granted"))
        offer = self.state.offer_accepted or self.state.open_offer is not None
        self._require("a loan is granted on an offer", offer or self.state.status == "granted")

    def _draft(self, stage: str) -> Offer:
        draft = self.state.draft
        if draft is None or draft.stage != stage:
            raise RefusedError(self.key, self.state.status, f"no offer has just been {stage}")
        return draft

    def _open_offer(self) -> Offer:
        offer = self.state.open_offer
        if offer is None:
            raise RefusedError(self.key, self.state.status, "the customer has no offer")
        return offer
