"""The log's rows as commands: which method of `LoanApplication` each activity calls."""

from __future__ import annotations

import csv
import gzip
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from examples.loans.application import LoanApplication
from examples.loans.events import WorkItem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOG: Final = Path(__file__).parent / "data" / "bpic2012.csv.gz"


class Row(NamedTuple):
    """One row of the log, which is one command."""

    application: str
    step: int
    """Its number within the application, from 1: the version of the stream once the command is done."""
    at: datetime
    activity: str
    lifecycle: str
    resource: str | None
    """The employee's number; 18,010 rows have none. 112 is the bank's system."""
    amount_requested: int | None
    """On the first row of each application."""

    def run(self, application: LoanApplication) -> None:
        """Give the command to its application.

        Raises:
            RefusedError: The application's state does not allow it.
        """
        if self.amount_requested is not None:
            application.submit(self.amount_requested, self.at)
        elif self.activity.startswith("W_"):
            WORK[self.lifecycle](application, WorkItem(self.activity.removeprefix("W_")), self.at)
        else:
            STEPS[self.activity](application, self.at)


STEPS: Final[Mapping[str, Callable[[LoanApplication, datetime], None]]] = {
    "A_PARTLYSUBMITTED": LoanApplication.partly_submit,
    "A_PREACCEPTED": LoanApplication.preaccept,
    "A_ACCEPTED": LoanApplication.accept,
    "A_FINALIZED": LoanApplication.finalize,
    "A_APPROVED": LoanApplication.approve,
    "A_REGISTERED": LoanApplication.register,
    "A_ACTIVATED": LoanApplication.activate,
    "A_DECLINED": LoanApplication.decline,
    "A_CANCELLED": LoanApplication.cancel,
    "O_SELECTED": LoanApplication.select_offer,
    "O_CREATED": LoanApplication.create_offer,
    "O_SENT": LoanApplication.send_offer,
    "O_SENT_BACK": LoanApplication.take_offer_back,
    "O_ACCEPTED": LoanApplication.accept_offer,
    "O_CANCELLED": LoanApplication.cancel_offer,
    "O_DECLINED": LoanApplication.decline_offer,
}

WORK: Final[Mapping[str, Callable[[LoanApplication, WorkItem, datetime], None]]] = {
    "SCHEDULE": LoanApplication.schedule,
    "START": LoanApplication.start,
    "COMPLETE": LoanApplication.complete,
}


def read_rows(limit: int | None = None) -> Iterator[Row]:
    """Yield the rows in the order of their times; the first `limit` of them, if given.

    Rows of the same millisecond (13,995 follow one within their application) are in the order of their steps. Times
    carry the bank's offset, which changes on 30 October 2011; they are compared and stored as instants.
    """
    with gzip.open(LOG, "rt", encoding="utf-8", newline="") as file:
        for time, application, step, activity, lifecycle, resource, amount in islice(_records(file), limit):
            yield Row(
                application,
                int(step),
                datetime.fromisoformat(time),
                activity,
                lifecycle,
                resource or None,
                int(amount) if amount else None,
            )


def _records(lines: Iterator[str]) -> Iterator[list[str]]:
    records = csv.reader(lines)
    next(records)  # the header
    return records
