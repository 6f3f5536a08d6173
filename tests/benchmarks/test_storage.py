from __future__ import annotations

import json
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from benchmarks import marked
from benchmarks.storage import __main__ as storage
from benchmarks.storage import page, rows, variants
from benchmarks.storage.choices import CHOICES, chosen
from benchmarks.storage.rows import Source
from benchmarks.storage.run import Finding, Run, Table, figure
from benchmarks.storage.variants import SHIPPED, Variant

ABOUT = {"events": 1, "rounds": 1, "seed": 1, "quick": False}
MACHINE = {
    "cpu": "one",
    "cores": 2,
    "memory_gib": 4,
    "kernel": "Linux",
    "data_directory_on": "ext4",
    "postgresql": "18",
    "settings": {"fsync": "on"},
    "commit": "0",
}


# --- a run -----------------------------------------------------------------------------------------------------------


def test_a_quick_run_measures_every_choice_and_writes_its_figures_between_what_a_person_wrote(
    durable_dsn: str, tmp_path: Path
) -> None:
    written = tmp_path / "storage.md"
    written.write_text("Before.\n\n<!-- measured: payloads -->\nformer figures\n<!-- end -->\n\nAfter.\n")
    options = ["--dsn", durable_dsn, "--state", str(tmp_path), "--page", str(written)]

    assert storage.main([*options, "--quick", "--events", "1500", "--rounds", "1"]) == 0

    content = json.loads((tmp_path / "quick" / "storage.json").read_text())
    assert set(content["choices"]) == set(CHOICES)
    for entry in content["choices"].values():
        assert entry["tables"]
        assert entry["checks"]
        assert all(len(row) == len(table["columns"]) for table in entry["tables"] for row in table["rows"])
        for samples in entry["samples"].values():
            assert all(len(values) == 1 and min(values) > 0 for values in samples.values())
    text = written.read_text()
    assert text.startswith("Before.\n\n<!-- measured: payloads -->\n\nDeposits, 1,500 events:")
    assert "<!-- end -->\n\nAfter.\n" in text
    assert "former figures" not in text
    assert set(CHOICES) | {page.MACHINE} == set(marked.names(text))


def test_only_the_chosen_ones_are_measured_and_a_wrong_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert chosen("payloads,event-ids") == ["event-ids", "payloads"]
    assert storage.main(["--only", "payload"]) == 1
    assert "there is no choice 'payload'" in capsys.readouterr().err


async def test_a_variant_is_the_migrated_table_but_for_its_one_change(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        run = Run(dsn, connection, 1_000, 1, random.Random(1), lambda _: None)
        source = await rows.source(run, rows.DEPOSITS_SET)
        changed = Variant("text", ("ALTER TABLE {table} ALTER COLUMN data TYPE text",), values={"data": "data"})
        made = await variants.make(run, source, "test", [Variant(SHIPPED), changed])
        columns = {
            table: dict(
                await connection.fetch(
                    "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
                    "WHERE attrelid = $1::text::regclass AND attnum > 0",
                    table,
                )
            )
            for table in ("eventstore.events", made[SHIPPED].table, made["text"].table)
        }
        shipped, same, other = columns.values()
        assert shipped == same == other | {"data": "json"} != other
        size = await variants.sizes(run, made[SHIPPED])
        assert f"({await variants.shipped_key(run)})" in size.indexes
        assert await connection.fetchval(f"SELECT count(*) FROM {made[SHIPPED].table}") == source.base
        assert size.total * source.base == await connection.fetchval(
            "SELECT pg_total_relation_size($1::text::regclass) - pg_relation_size($1::text::regclass, 'fsm') "
            "- pg_relation_size($1::text::regclass, 'vm')",
            made[SHIPPED].table,
        )
    finally:
        await connection.close()


# --- the rows --------------------------------------------------------------------------------------------------------


async def test_rows_come_as_in_life_and_are_the_same_for_the_same_seed(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        made, all_rows = await _made_rows(dsn, connection)
        await connection.execute("DROP TABLE source.deposits")
        assert await _made_rows(dsn, connection) == (made, all_rows)
    finally:
        await connection.close()
    living, old = all_rows[: made.events], all_rows[made.events :]
    assert len(old) == made.rounds * made.slice > 0
    milliseconds = [row["event_id"].int >> 80 for row in living]
    assert milliseconds == sorted(milliseconds)
    assert {row["event_id"].version for row in living} == {7}
    assert {row["random_id"].version for row in living} == {4}
    categories = Counter(row["stream_id"].partition("-")[0] for row in living)
    assert categories["audit"] == 10
    assert 80 <= categories["transfer"] <= 120
    versions: Counter[str] = Counter()
    for row in all_rows:  # no gaps, whoever appends
        versions[row["stream_id"]] += 1
        assert row["stream_version"] == versions[row["stream_id"]]
    assert {row["stream_id"] for row in old} <= {row["stream_id"] for row in living}


async def _made_rows(dsn: str, connection: Any) -> tuple[Source, list[Any]]:
    run = Run(dsn, connection, 1_000, 1, random.Random(7), lambda _: None)
    made = await rows.source(run, rows.DEPOSITS_SET)
    return made, await connection.fetch("SELECT * FROM source.deposits ORDER BY n")


# --- the page --------------------------------------------------------------------------------------------------------


def test_figures_that_no_longer_bear_a_conclusion_are_named_and_shown(tmp_path: Path) -> None:
    finding = Finding("payloads", "The type of payloads", [Table("Sizes", ["", "bytes"], [["json", 410.2]])])
    finding.at_least("jsonb over json", [0.9, 1.0, 1.2], 1.1)
    page.merge(tmp_path / "storage.json", finding, MACHINE, ABOUT)

    content = page.load(tmp_path / "storage.json")
    page.refresh(content, tmp_path / "storage.md")

    assert page.broken(content) == ["payloads: jsonb over json: 1.00, not ≥ 1.1"]
    text = (tmp_path / "storage.md").read_text()
    assert "| json | 410 |" in text
    assert "| jsonb over json | 1.00 | ≥ 1.1 | **no** |" in text


def test_the_page_shows_the_figures_of_the_results_file(tmp_path: Path) -> None:
    written = storage.ROOT / "docs" / "design" / "storage.md"
    shutil.copy(written, tmp_path)
    content = page.load(storage.ROOT / "benchmarks" / "storage.json")

    page.refresh(content, tmp_path / "storage.md")

    assert (tmp_path / "storage.md").read_text(encoding="utf-8") == written.read_text(encoding="utf-8")
    assert set(content["choices"]) == set(CHOICES)
    assert not any(entry["run"]["quick"] for entry in content["choices"].values())


def test_figures_have_three_digits_that_count() -> None:
    assert [figure(value) for value in (0, 0.456, 9.876, 98.76, 987.6, 98765.4)] == [
        "0",
        "0.46",
        "9.88",
        "98.8",
        "988",
        "98,765",
    ]


def test_a_server_that_may_lose_data_is_refused(dsn: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert storage.main(["--dsn", dsn, "--state", str(tmp_path), "--quick"]) == 1

    assert "fsync, synchronous_commit, full_page_writes must be on" in capsys.readouterr().err
