"""Every snippet that a user is shown runs."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from eventstore.db.migrating import migrate
from eventstore.devserver.sources import KAFKA_VARIABLE, POSTGRES_VARIABLE
from examples.loans.demo import FULL, SMALL, STATE
from fixtures.cli_kit import EventstoreCommand

ROOT = Path(__file__).parent.parent.parent
_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def snippets(document: str) -> list[str]:
    return _BLOCK.findall((ROOT / document).read_text(encoding="utf-8"))


async def test_the_guide_runs_from_the_first_snippet_to_the_last(dsn: str) -> None:
    module = types.ModuleType("guide")
    sys.modules["guide"] = module  # pydantic looks a model's module up
    module.__dict__["dsn"] = dsn
    try:
        for number, snippet in enumerate(snippets("docs/guide.md"), start=1):
            code = compile(
                snippet, f"guide.md, snippet {number}", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
            )
            outcome = eval(code, module.__dict__)  # noqa: S307 - our own document
            if asyncio.iscoroutine(outcome):
                await outcome
    finally:
        del sys.modules["guide"]


async def test_the_readme_program_runs_as_it_stands(dsn: str, tmp_path: Path) -> None:
    await migrate(dsn)
    (program,) = snippets("README.md")
    file = tmp_path / "program.py"
    file.write_text(program, encoding="utf-8")
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-W", "error", str(file)],
        env=os.environ | {"EVENTSTORE_DSN": dsn},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("1 OrderPlaced tea 2\n", "")


def test_the_readme_program_names_an_application_for_the_command_line(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (program,) = snippets("README.md")
    (tmp_path / "readme_shop.py").write_text(program, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    done = EventstoreCommand().ok("--dsn", dsn, "--app", "readme_shop:app", "streams")
    assert "order-42" not in done  # it was imported, and not run


def test_the_readme_names_where_the_demo_keeps_its_data_and_what_chooses_its_servers() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in (str(STATE), f"`{FULL.database}`", f"`{SMALL.database}`", POSTGRES_VARIABLE, KAFKA_VARIABLE):
        assert name in readme


@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/guide.md",
        "docs/idempotency.md",
        "docs/contract.md",
        "docs/design/architecture.md",
        "CONTRIBUTING.md",
    ],
)
def test_every_relative_link_leads_somewhere(document: str) -> None:
    file = ROOT / document
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [target for target in targets if not (file.parent / target).exists()] == []
