"""The demo from end to end, on a part of the log: what it shows, what its exit code says, and running it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from eventstore import EventStore, rebuild
from eventstore.projections import ProjectionWorker
from examples.loans import app, demo, folding
from examples.loans.commands import Commands
from examples.loans.folding import fold
from examples.loans.read_models import loans, read_figures
from examples.loans.rows import read_rows

ROWS = 1000

Demo = Callable[..., tuple[int, str]]


@pytest.fixture
def run_demo(
    empty_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Demo:
    """Runs the small demo on even fewer rows, in a database and on topics of its own; returns exit code and output."""
    database = urlsplit(empty_dsn).path[1:]
    monkeypatch.setattr(demo, "SMALL", demo.Size("a part of the log", ROWS, database, f"{database}-"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        code = demo.main(["--small", "--postgres", empty_dsn, *arguments])
        return code, capfd.readouterr().out

    return run


def test_it_runs_everything_and_all_figures_agree(run_demo: Demo, kafka_bootstrap: str) -> None:
    code, output = run_demo("--kafka", kafka_bootstrap)
    assert code == 0, output
    for stage in ("Commands", "Snapshots taken", "Published to Kafka", "Projected from Kafka"):
        assert stage in output
    assert "✗" not in output


def test_a_second_run_says_what_it_found_and_does_nothing_twice(run_demo: Demo) -> None:
    run_demo("--kafka", "none")
    code, output = run_demo("--kafka", "none")
    assert code == 0, output
    assert "1,000 of 1,000 rows were already there" in output


def test_without_kafka_it_says_so_and_projects_from_the_log(run_demo: Demo) -> None:
    code, output = run_demo("--kafka", "none")
    assert code == 0, output
    assert "nothing is published" in output
    assert "Projected from the log" in output
    assert "Published to Kafka" not in output


def test_it_replays_one_application_at_a_version_and_at_a_time(run_demo: Demo) -> None:
    _, output = run_demo("--kafka", "none")
    assert "replay application-" in output
    assert " --version " in output
    assert " --at 2011-10-" in output


def test_figures_that_do_not_agree_end_it_with_an_error(run_demo: Demo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "fold", lambda rows: folding.fold(rows[1:]))
    code, output = run_demo("--kafka", "none")
    assert code == 1
    assert "The figures do not agree." in output


async def test_the_read_models_agree_with_the_rows_and_so_do_rebuilt_ones(dsn: str) -> None:
    rows = list(read_rows(ROWS))
    async with EventStore.open(dsn, app) as store:
        commands = Commands(store, rows)
        await commands.find()
        await commands.run()
        await ProjectionWorker(store, loans).run_until_caught_up()
        assert await figures(store) == fold(rows)
        await rebuild(store, loans)
        assert await figures(store) == fold(rows)


async def figures(store: EventStore) -> object:
    async with store.transaction() as tx:
        return await read_figures(tx.connection)
