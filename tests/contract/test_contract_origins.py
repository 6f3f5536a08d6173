"""The documented tables of origins and the tests agree, both ways, and all these tests are in the suite."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

SUITE = Path(__file__).parent
TESTS = SUITE.parent
DOCUMENT = TESTS.parent / "docs" / "contract.md"
_ROW = re.compile(r"^\| .+ \| (?P<origins>[^|]+) \| `(?P<test>\w+)` \|$", re.MULTILINE)

Origins = dict[str, frozenset[str]]


def documented(text: str) -> Origins:
    return {row["test"]: frozenset(row["origins"].split(", ")) for row in _ROW.finditer(text)}


def marked(file: Path) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield the tests of a file that name an origin, with their origins."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        for decorator in getattr(node, "decorator_list", ()):
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.origin":
                assert isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
                yield node.name, frozenset(ast.literal_eval(argument) for argument in decorator.args)


@pytest.fixture(autouse=True)
def collected() -> None:
    """CPython 3.11 cannot parse while it finalizes what another test has left (a SystemError)."""
    gc.collect()


def test_the_documented_origins_are_those_of_the_tests() -> None:
    of_tests = [found for file in TESTS.rglob("test_*.py") for found in marked(file)]

    assert len(dict(of_tests)) == len(of_tests)  # no two of one name
    assert documented(DOCUMENT.read_text(encoding="utf-8")) == dict(of_tests)


def test_every_case_with_an_origin_is_in_the_suite() -> None:
    """Who holds a store of their own to the contract runs this folder, and would not see what lies elsewhere."""
    outside = [file for file in TESTS.rglob("test_*.py") if file.parent != SUITE and list(marked(file))]

    assert outside == []


def test_every_row_is_read() -> None:
    """A row that the pattern did not know would be checked by nobody."""
    text = DOCUMENT.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith(("| case", "| ---"))]

    assert len(documented(text)) == len(rows)
