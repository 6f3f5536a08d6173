"""The report for people: docs/benchmarks.md and its charts, written from the results' file alone."""

from __future__ import annotations

from statistics import median
from textwrap import fill
from typing import TYPE_CHECKING, Any, Final

from benchmarks.charts import Bar, Mark, bars, figure, overview
from benchmarks.results import OURS
from benchmarks.works import WORKS

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.results import Row

Entry = dict[str, Any]

_HEAD: Final = """\
# Benchmarks

How fast it is, beside raw asyncpg, pgbench, other Python event stores and Debezium, side by side on the same servers
and the same events. `make bench` measures all rows again and writes this page; nothing on it is written by hand. Rows
can be measured by themselves (`--only`): each says of which commit it is.
"""
_OVERVIEW: Final = "Every ratio, in multiples of its reach"
_METHOD: Final = """\
## How it is measured

- **Side by side.** Each round runs every subject once, in an order drawn anew; a warm-up round does not count. A ratio
  is taken within each round, and its median is what is held against the reach.
- **Durable.** fsync, synchronous_commit and full_page_writes are on, the database is on a disk; anything else is
  refused.
- **The same work.** Every subject writes the same deposits of 250 bytes of JSON. Raw asyncpg encodes with the same
  models, over open connections and prepared statements, into a table of the same definition with the same indexes, and
  without the framework's triggers: those are the framework's own cost.
- **Peers as their users run them.** Each has a process, an environment and a database of its own, with the versions
  and hashes of `benchmarks/peers/requirements/`, on Python 3.13 (the framework runs on the Python named above), with 32
  connections. Libraries that block are called from threads. What each does is in `benchmarks/peers/`.
- **What leaves the log** is measured with Apache Kafka in KRaft mode, one broker on the same machine, and with
  wal_level=logical, which Debezium needs. Debezium is the outbox router of its PostgreSQL connector on Kafka Connect
  standalone, from Maven Central, locked with checksums in `benchmarks/debezium/`, where its settings are too. Where
  ways are timed, service, publisher, projector and consumer are processes of their own, as they are in life.
- **Settled.** Before each row a checkpoint is made and all that was written is brought to the disk: no row waits for
  what an earlier one wrote. The log of 10,000,000 events is read once before it is measured: one in use is in memory.
  The one of 10,000 events that it is held against is filled anew before each turn, or it would soon be a large one too.
- **The machine's pace** is told with each row: how many milliseconds of processor Python took, just before, for a
  million additions. Figures of two runs can be held against each other only where it is the same.
- **To repeat it:** `make bench`, on a machine that does nothing else; it takes an hour or more, and 6 GB for the log of
  10,000,000 events, which is filled once (`--without-big` leaves those rows out). `make bench ARGS="--only appends
  --rounds 5"` measures some rows and leaves the others as they are. All samples are in `benchmarks/results.json`.
"""


def write(content: dict[str, Any], docs: Path) -> None:
    """Write the page and its charts."""
    charts = docs / "benchmarks"
    charts.mkdir(parents=True, exist_ok=True)
    rows = {name: content["rows"][name] for name in WORKS if name in content["rows"]}
    checks = [(name, check) for name, entry in rows.items() for check in entry["checks"]]
    marks = [_mark(name, check) for name, check in checks if check["ratio"] is not None]
    page = [_HEAD]
    if any(entry["run"]["quick"] for entry in rows.values()):
        page.append("**These are figures of a quick run: they show that the suite works, and nothing else.**\n")
    page.append(_machine(content["machine"]))
    if marks:
        (charts / "overview.svg").write_text(overview(_OVERVIEW, marks), encoding="utf-8")
        page.append(f"![{_OVERVIEW}](benchmarks/overview.svg)\n")
    page.append(_table(rows))
    page.append(_METHOD)
    for name, entry in rows.items():
        (charts / f"{name}.svg").write_text(_chart(entry), encoding="utf-8")
        page.append(_section(name, entry))
    (docs / "benchmarks.md").write_text("\n".join(page), encoding="utf-8")


def summary(row: Row) -> str:
    """Return a row's outcome in a few lines, for the terminal."""
    lines = [f"{row.name}: {row.work}"]
    for subject, value in _sorted(row.medians(), lower_is_better=row.lower_is_better):
        lines.append(f"    {figure(value):>10} {row.unit}  {subject}")
    for check in row.checks:
        told = f"{figure(check.ratio)}, {_verdict(check.met)}" if check.ratio is not None else f"- ({check.reason})"
        lines.append(f"    {check.name}: {told} (reach {check.bound})")
    lines += [f"    not measured: {subject}: {reason}" for subject, reason in row.missing.items()]
    return "\n".join(lines)


def _machine(machine: Entry) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in machine["settings"].items())
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    told = (
        f"Measured on {machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, {machine['kernel']}, "
        f"the database on {machine['data_directory_on']}; client and server share the machine. PostgreSQL "
        f"{machine['postgresql']} ({settings}). Python {machine['python']}, {packages}; "
        f"peers on Python {machine['python_of_peers']}; {_kafka(machine)}commit `{machine['commit']}`."
    )
    return fill(told, 120, break_on_hyphens=False) + "\n"


def _kafka(machine: Entry) -> str:
    return f"Apache Kafka {machine['kafka']}, Debezium {machine['debezium']}; " if "kafka" in machine else ""


def _table(rows: dict[str, Entry]) -> str:
    lines = ["| work | ratio | median | rounds | reach | met |", "| --- | --- | ---: | ---: | ---: | :-: |"]
    for name, entry in rows.items():
        for number, check in enumerate(entry["checks"]):
            work = f"[{entry['work']}](#{name})" if number == 0 else ""
            figures = f"{_told(check['ratio'])} | {_spread(check['ratios'])}"
            lines.append(f"| {work} | {check['name']} | {figures} | {_bound(check)} | {_verdict(check['met'])} |")
    return "\n".join(lines) + "\n"


def _section(name: str, entry: Entry) -> str:
    lines = [f'<a id="{name}"></a>', "", f"## {_capital(entry['work'])}", ""]
    lines += [f"![{entry['work']}](benchmarks/{name}.svg)", ""]
    lines += ["| | median | least | most | rounds |", "| --- | ---: | ---: | ---: | ---: |"]
    for subject, middle in _sorted(entry["medians"], lower_is_better=entry["lower_is_better"]):
        values = entry["samples"][subject]
        lines.append(
            f"| {subject} | {figure(middle)} | {figure(min(values))} | {figure(max(values))} | {len(values)} |"
        )
    lines += ["", f"In {entry['unit']}; {'less' if entry['lower_is_better'] else 'more'} is better."]
    lines += [f"\n{fill(note, 120, break_on_hyphens=False)}" for note in entry["notes"]]
    if entry["missing"]:
        lines += ["", "Not measured:", ""]
        lines += [f"- {subject}: {reason}." for subject, reason in entry["missing"].items()]
    run = entry["run"]
    told = f"{run['rounds']} rounds, seed {run['seed']}, {run['at']}, commit `{run['commit']}`"
    lines += ["", f"{told}; a million additions took {figure(run['pace'])} ms.", ""]
    return "\n".join(lines)


def _chart(entry: Entry) -> str:
    subjects = [
        Bar(subject, middle, entry["samples"][subject], ours=subject.startswith(OURS))
        for subject, middle in _sorted(entry["medians"], lower_is_better=entry["lower_is_better"])
    ]
    if not any(bar.ours for bar in subjects) and not any("asyncpg" in bar.label for bar in subjects):
        subjects = [Bar(bar.label, bar.median, bar.rounds, ours=True) for bar in subjects]  # only ours was measured
    return bars(_capital(entry["work"]), entry["unit"], subjects)


def _mark(name: str, check: Entry) -> Mark:
    def score(ratio: float) -> float:
        if check["sense"] == "at least":
            return float(ratio / check["reach"])
        return float(check["reach"] / max(ratio, check["reach"] / 1000))

    scores = sorted(score(ratio) for ratio in check["ratios"]) or [score(check["ratio"])]
    told = f"{figure(check['ratio'])} ({check['bound']})"
    return Mark(f"{name}: {check['brief']}", score(check["ratio"]), scores[0], scores[-1], told, check["met"])


def _sorted(medians: dict[str, float], *, lower_is_better: bool) -> list[tuple[str, float]]:
    return sorted(medians.items(), key=lambda item: item[1], reverse=not lower_is_better)


def _told(ratio: float | None) -> str:
    return "-" if ratio is None else figure(ratio)


def _spread(ratios: list[float]) -> str:
    if len(ratios) <= 1:
        return "-" if not ratios else figure(median(ratios))
    return f"{figure(min(ratios))} to {figure(max(ratios))}"


def _bound(check: Entry) -> str:
    bound: str = check["bound"]
    return bound + (f" (stretch {check['stretch']:g})" if check["stretch"] is not None else "")


def _verdict(met: bool | None) -> str:
    return "not measured" if met is None else "yes" if met else "no"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
