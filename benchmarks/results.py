"""What a run found: rows with their samples and checks, in a file where parts of several runs come together."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from pathlib import Path

Samples = dict[str, list[float]]
"""For each subject, one figure a round, in the order of the rounds."""

FORMAT: Final = 1
OURS: Final = "pg-eventstore"


@dataclass(slots=True)
class Check:
    """A ratio and how far it should reach.

    Attributes:
        name: The ratio in words.
        brief: The same beside the row's name in a chart.
        ratio: The median of the rounds' ratios; None when it could not be measured.
        reach: The bound.
        sense: On which side of the bound it should be.
        stretch: What would be better still.
        ratios: The ratio of each round.
        reason: Why it could not be measured.
    """

    name: str
    brief: str
    ratio: float | None
    reach: float
    sense: Literal["at least", "at most"]
    stretch: float | None = None
    ratios: list[float] = field(default_factory=list)
    reason: str | None = None

    @property
    def met(self) -> bool | None:
        """Whether it reaches; None when it was not measured."""
        if self.ratio is None:
            return None
        return self.ratio >= self.reach if self.sense == "at least" else self.ratio <= self.reach

    @property
    def bound(self) -> str:
        """The bound as text."""
        return f"{'≥' if self.sense == 'at least' else '≤'} {self.reach:g}"


@dataclass(slots=True)
class Row:
    """One line of the table.

    Attributes:
        name: What `--only` calls it.
        work: What is done, in words.
        unit: What the samples are in.
        lower_is_better: Whether small samples are the good ones.
        samples: The figures.
        checks: What they should reach.
        missing: Subjects that were not measured, and why.
        notes: What one must know to read the figures.
    """

    name: str
    work: str
    unit: str
    lower_is_better: bool
    samples: Samples = field(default_factory=dict)
    checks: list[Check] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def medians(self) -> dict[str, float]:
        """Return each subject's median."""
        return {subject: median(values) for subject, values in self.samples.items() if values}

    def best(self, subjects: list[str]) -> str | None:
        """Return the subject with the best median among these."""
        medians = {subject: value for subject, value in self.medians().items() if subject in subjects}
        if not medians:
            return None
        return (min if self.lower_is_better else max)(medians, key=lambda subject: medians[subject])

    def compare(
        self,
        name: str,
        brief: str,
        over: str,
        under: str | None,
        *,
        at_least: float | None = None,
        at_most: float | None = None,
        stretch: float | None = None,
    ) -> None:
        """Add the check that the ratio of two subjects, round by round, has a median within a bound."""
        check = _bounded(name, brief, at_least, at_most, stretch)
        if over in self.samples and under is not None and under in self.samples:
            check.ratios = [a / b for a, b in zip(self.samples[over], self.samples[under], strict=True)]
            check.ratio = median(check.ratios)
        else:
            absent = (over if over not in self.samples else under) or ""
            reasons = (reason for subject, reason in self.missing.items() if absent.startswith(subject))
            check.reason = next(reasons, "nothing to compare with was measured")
        self.checks.append(check)

    def compare_with_best(self, ours: str, peers: list[str], *, at_least: float, way: str = "") -> None:
        """Add the check that ours is so many times the peer with the best median."""
        best = self.best(peers)
        told = f" ({best.removesuffix(f', {way}')})" if best else ""
        prefix = f"{way}: " if way else ""
        self.compare(f"{prefix}over the best Python peer{told}", f"{prefix}best peer", ours, best, at_least=at_least)

    def judge(
        self,
        name: str,
        brief: str,
        values: list[float],
        *,
        at_least: float | None = None,
        at_most: float | None = None,
    ) -> None:
        """Add the check that figures, one a round, have a median within a bound."""
        check = _bounded(name, brief, at_least, at_most, None)
        check.ratios = values
        check.ratio = median(values) if values else None
        check.reason = None if values else "not measured"
        self.checks.append(check)


def _bounded(name: str, brief: str, at_least: float | None, at_most: float | None, stretch: float | None) -> Check:
    if at_least is not None:
        return Check(name, brief, None, at_least, "at least", stretch)
    assert at_most is not None  # noqa: S101 - one of the two is always given
    return Check(name, brief, None, at_most, "at most", stretch)


def entry(row: Row, about: dict[str, Any]) -> dict[str, Any]:
    """Return a row as it stands in the file. The first check is the row's ratio; met means that all checks are."""
    first = row.checks[0]
    verdicts = [check.met for check in row.checks]
    return {
        "work": row.work,
        "ratio": first.ratio,
        "reach": first.bound,
        "met": None if None in verdicts and False not in verdicts else all(verdicts),
        "unit": row.unit,
        "lower_is_better": row.lower_is_better,
        "medians": row.medians(),
        "samples": row.samples,
        "checks": [asdict(check) | {"met": check.met, "bound": check.bound} for check in row.checks],
        "missing": row.missing,
        "notes": row.notes,
        "run": about,
    }


def load(file: Path) -> dict[str, Any]:
    """Return what the file says; an empty frame when there is none, or one of another format."""
    if file.is_file():
        content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if content.get("format") == FORMAT:
            return content
    return {"format": FORMAT, "machine": {}, "rows": {}}


def merge(file: Path, row: Row, machine: dict[str, Any], about: dict[str, Any]) -> None:
    """Put a row into the file in the place of its former self."""
    content = load(file)
    content["machine"] = machine
    content["rows"][row.name] = entry(row, about)
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.rename(file)
