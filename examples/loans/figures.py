"""The figures that must agree, however they were come by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Figures:
    """A log of loan applications in numbers; `LABELS` says what each of them is."""

    applications: int
    approved: int
    declined: int
    cancelled: int
    undecided: int
    events: int
    euros_requested: int
    offers: int
    work_started: int
    work_completed: int
    work_closed: int
    busiest_day: int


LABELS: Final = {
    "applications": "Applications",
    "approved": "  approved",
    "declined": "  declined",
    "cancelled": "  cancelled",
    "undecided": "  undecided",
    "events": "Events",
    "euros_requested": "Euros requested",
    "offers": "Offers selected",
    "work_started": "Sessions of work begun",
    "work_completed": "  and ended",
    "work_closed": "Items closed with nobody at work",
    "busiest_day": "Sessions begun on the busiest day",
}

PUBLISHED: Final = {
    "applications": 13_087,
    "approved": 2_246,
    "declined": 7_635,
    "cancelled": 2_807,
    "undecided": 399,
    "events": 262_200,
}
"""What is known of the whole log: see `data/README.md`."""
