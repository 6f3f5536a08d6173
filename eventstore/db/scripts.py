"""The migrations that this code comes with, as files: where they are, and which revisions they lead to."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path


def scripts_dir() -> Path:
    """Return the folder of the migrations: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parent.parent
    installed = package / "migrations"
    return installed if installed.is_dir() else package.parent / "migrations"


@lru_cache(maxsize=1)
def known_revisions() -> tuple[str, ...]:
    """Return the revisions that this code knows, oldest first: the numbers that the migrations' files begin with."""
    return tuple(sorted(file.name.partition("_")[0] for file in (scripts_dir() / "versions").glob("[0-9]*.py")))


def head_revision() -> str:
    """Return the newest schema revision that this code knows."""
    return known_revisions()[-1]
