"""The same figures straight from the rows: no framework, no domain, as somebody with a spreadsheet would count them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from examples.loans.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Iterable

    from examples.loans.rows import Row


def fold(rows: Iterable[Row]) -> Figures:
    """Count rows by what they say."""
    activities: Counter[str] = Counter()
    work: Counter[str] = Counter()
    started_on: Counter[str] = Counter()
    at_work: Counter[tuple[str, str]] = Counter()
    euros = 0
    for row in rows:
        activities[row.activity] += 1
        euros += row.amount_requested or 0
        if not row.activity.startswith("W_"):
            continue
        somebody = (row.application, row.activity)
        if row.lifecycle == "START":
            at_work[somebody] += 1
            work["started"] += 1
            started_on[f"{row.at:%Y-%m-%d}"] += 1
        elif row.lifecycle == "COMPLETE" and at_work[somebody]:
            at_work[somebody] -= 1
            work["completed"] += 1
        elif row.lifecycle == "COMPLETE":
            work["closed"] += 1
    decided = activities["A_APPROVED"] + activities["A_DECLINED"] + activities["A_CANCELLED"]
    return Figures(
        applications=activities["A_SUBMITTED"],
        approved=activities["A_APPROVED"],
        declined=activities["A_DECLINED"],
        cancelled=activities["A_CANCELLED"],
        undecided=activities["A_SUBMITTED"] - decided,
        events=activities.total(),
        offers=activities["O_SELECTED"],
        euros_requested=euros,
        work_started=work["started"],
        work_completed=work["completed"],
        work_closed=work["closed"],
        busiest_day=max(started_on.values(), default=0),
    )
