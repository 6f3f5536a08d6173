"""Pages that a person writes around figures that a run writes: between `<!-- measured: NAME -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

_BLOCK: Final = re.compile(r"<!-- measured: (?P<name>[\w-]+) -->\n.*?<!-- end -->", re.DOTALL)


def refresh(page: Path, blocks: Mapping[str, str]) -> None:
    """Write blocks between their markers; those that have none yet come at the page's end."""
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    there = names(text)
    text += "".join(f"\n<!-- measured: {name} -->\n<!-- end -->\n" for name in blocks if name not in there)

    def filled(match: re.Match[str]) -> str:
        name = match["name"]
        return f"<!-- measured: {name} -->\n\n{blocks[name]}\n\n<!-- end -->" if name in blocks else match[0]

    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(_BLOCK.sub(filled, text), encoding="utf-8")


def names(text: str) -> list[str]:
    """Return the names of a page's markers."""
    return [match["name"] for match in _BLOCK.finditer(text)]
