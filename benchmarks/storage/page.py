"""The results' file, and the page that shows it: text written by hand around tables that are written from the file.

What stands on the page between `<!-- measured: NAME -->` and `<!-- end -->` is the choice's figures; the rest, the
conclusions, is a person's. Each conclusion rests on checks, so that figures that no longer bear it are noticed.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from benchmarks import marked
from benchmarks.storage.run import figure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.storage.run import Cell, Finding

Entry = dict[str, Any]

FORMAT: Final = 1
MACHINE: Final = "machine"


def load(file: Path) -> Entry:
    """Return what the file says; an empty frame when there is none, or one of another format."""
    if file.is_file():
        content: Entry = json.loads(file.read_text(encoding="utf-8"))
        if content.get("format") == FORMAT:
            return content
    return {"format": FORMAT, "machine": {}, "choices": {}}


def merge(file: Path, finding: Finding, machine: Entry, about: Entry) -> None:
    """Put what was found about a choice into the file, in the place of what stood there."""
    content = load(file)
    content["machine"] = machine
    entry = asdict(finding)
    entry["checks"] = [asdict(check) | {"met": check.met, "bound": check.bound} for check in finding.checks]
    content["choices"][finding.name] = entry | {"run": about | {"commit": machine["commit"]}}
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.rename(file)


def broken(content: Entry) -> list[str]:
    """Return the checks that do not hold: what somebody concluded no longer follows from the figures."""
    return [
        f"{name}: {check['name']}: {figure(check['ratio'])}, not {check['bound']}"
        for name, entry in content["choices"].items()
        for check in entry["checks"]
        if check["met"] is False
    ]


def refresh(content: Entry, page: Path) -> None:
    """Write the figures into the page, between their markers."""
    blocks = {name: _section(entry) for name, entry in content["choices"].items()}
    if content["machine"]:
        blocks[MACHINE] = _machine(content)
    marked.refresh(page, blocks)


def _machine(content: Entry) -> str:
    machine = content["machine"]
    settings = ", ".join(f"{name} {value}" for name, value in machine["settings"].items())
    return fill(
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"the database on {machine['data_directory_on']}. PostgreSQL {machine['postgresql']} ({settings}; "
        "synchronous_commit off in the session that appends, because the disk costs every variant the same).",
        120,
        break_on_hyphens=False,
    )


def _section(entry: Entry) -> str:
    parts = [_table(table) for table in entry["tables"]]
    parts += [fill(note, 120, break_on_hyphens=False) for note in entry["notes"]]
    if entry["checks"]:
        lines = ["| the conclusion rests on | measured | bound | holds |", "| --- | ---: | ---: | :-: |"]
        lines += [
            f"| {check['name']} | {figure(check['ratio'])} | {check['bound']} | {'yes' if check['met'] else '**no**'} |"
            for check in entry["checks"]
        ]
        parts.append("\n".join(lines))
    run = entry["run"]
    quick = "**A quick run, whose figures mean little.** " if run["quick"] else ""
    parts.append(
        f"{quick}{run['events']:,} events asked for, {run['rounds']} rounds, seed {run['seed']}, commit "
        f"`{run['commit']}`."
    )
    return "\n\n".join(parts)


def _table(table: Entry) -> str:
    columns = table["columns"]
    lines = [
        f"{table['caption']}:" if ":" not in table["caption"] else f"{table['caption']}.",
        "",
        f"| {' | '.join(columns)} |",
        f"| --- |{' ---: |' * (len(columns) - 1)}",
    ]
    lines += [f"| {' | '.join(_told(cell) for cell in row)} |" for row in table["rows"]]
    return "\n".join(lines)


def _told(cell: Cell) -> str:
    if cell is None:
        return "-"
    return cell if isinstance(cell, str) else figure(cell)
