from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import healing
from fixtures.campaigns import RESULTS, Chance, report_healing


def test_the_last_run_of_each_kind_is_drawn_and_written_between_the_markers(tmp_path: Path) -> None:
    results = tmp_path / "campaign.jsonl"
    runs = [
        {"run": "relay, 3 kills", "outcome": "nothing wrong", "seconds": [9.0, 9.0, 9.0], "events": 1, "seed": 1},
        {"run": "projector, 2 cuts", "outcome": "not ended", "seconds": [0.5, 0.1], "events": 20, "seed": 2},
        {"run": "relay, 3 kills", "outcome": "nothing wrong", "seconds": [0.2, 0.1, 3.5], "events": 12345, "seed": 3},
    ]
    results.write_text("".join(json.dumps(run) + "\n" for run in runs))
    page = tmp_path / "outages.md"
    page.write_text("Before.\n\n<!-- measured: healing -->\nformer\n<!-- end -->\n\nAfter.\n")

    assert healing.main(["--results", str(results), "--docs", str(tmp_path)]) == 0

    text = page.read_text()
    assert "| relay, 3 kills | nothing wrong | 3 | 12,345 | 0.20 s | 3.50 s | 3 |" in text
    assert "| projector, 2 cuts | not ended | 2 | 20 | 0.30 s | 0.50 s | 2 |" in text
    assert "9.00" not in text
    assert text.startswith("Before.")
    assert text.endswith("After.\n")
    assert (tmp_path / "benchmarks" / healing.CHART).read_text().count("<circle") == 5


def test_a_campaign_notes_its_runs_where_it_is_told_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "made" / "campaign.jsonl"
    monkeypatch.setenv(RESULTS, str(file))

    report_healing("2 kills", [0.25, 1.75], events=4321, outcome="nothing wrong", chance=Chance(7))
    report_healing("1 kill", [5.0], events=1, outcome="not ended", chance=Chance(8))

    told = capsys.readouterr().out
    assert "2 kills: nothing wrong; 2 faults, over within 1.00 s, 1.75 s at the most; 4,321 events; seed 7" in told
    assert [json.loads(line)["outcome"] for line in file.read_text().splitlines()] == ["nothing wrong", "not ended"]


def test_without_results_it_says_where_they_come_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        healing.main(["--results", str(tmp_path / "none.jsonl"), "--docs", str(tmp_path)])
    assert "`make campaign` notes them there" in capsys.readouterr().err
