"""Where downloads are kept: outside of any checkout, shared by all of a user's projects."""

from __future__ import annotations

import os
from pathlib import Path

from eventstore.devserver.errors import DevServerError

CACHE_VARIABLE = "EVENTSTORE_CACHE"


def cache_dir() -> Path:
    """The user's cache directory for pg-eventstore, made if need be; `EVENTSTORE_CACHE` chooses another.

    Raises DevServerError when it cannot be made.
    """
    chosen = os.environ.get(CACHE_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    directory = Path(chosen or f"{base}/pg-eventstore")
    try:
        directory = directory.expanduser().absolute()
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:
        raise DevServerError(
            f"no place for downloads: {directory} cannot be made ({error}); set {CACHE_VARIABLE} to a directory"
        ) from error
    return directory
