"""Draws how soon nothing was behind any more after each fault of the campaigns, and writes the table beside it.

make campaign ARGS="-k 'relay or projector'"   notes its runs in .eventstore/campaign.jsonl
.venv/bin/python -m benchmarks.healing         takes the last one of each kind from there into docs/outages.md
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

from benchmarks import marked
from benchmarks.charts import Bar, bars

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT: Final = Path(__file__).parent.parent
CHART: Final = "healing.svg"
_TITLE: Final = "From the end of a fault until nothing is behind"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.healing", description=__doc__, allow_abbrev=False)
    parser.add_argument("--results", type=Path, default=ROOT / ".eventstore" / "campaign.jsonl")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs", help="where outages.md is, and the chart goes")
    options = parser.parse_args(arguments)
    if not options.results.is_file():
        parser.error(f"there are no results in {options.results}: `make campaign` notes them there")
    runs = last_runs(options.results.read_text(encoding="utf-8").splitlines())
    charts = options.docs / "benchmarks"
    charts.mkdir(parents=True, exist_ok=True)
    (charts / CHART).write_text(chart(runs), encoding="utf-8")
    marked.refresh(options.docs / "outages.md", {"healing": table(runs)})
    return 0


def last_runs(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the last run of each name, in the order in which they first came."""
    runs: dict[str, dict[str, Any]] = {}
    for run in map(json.loads, lines):
        runs[run["run"]] = run
    return list(runs.values())


def chart(runs: Sequence[dict[str, Any]]) -> str:
    """Return the runs as SVG: a bar is the median, a dot is one time."""
    return bars(_TITLE, "s", [Bar(run["run"], median(run["seconds"]), run["seconds"], ours=True) for run in runs])


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Return the runs as a table."""
    lines = [
        "| run | found in the end | times | events beside | over within, median | at the most | seed |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for run in runs:
        seconds = run["seconds"]
        counted = f"{run['outcome']} | {len(seconds)} | {run['events']:,}"
        lines.append(f"| {run['run']} | {counted} | {median(seconds):.2f} s | {max(seconds):.2f} s | {run['seed']} |")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
