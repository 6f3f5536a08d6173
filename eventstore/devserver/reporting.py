"""How the caller hears what is going on while servers are fetched and started."""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Progress(Protocol):
    """What a start tells about itself. `progress.RichProgress` draws it on a terminal."""

    def step(self, text: str) -> None:
        """Say what is being done now, in a sentence for people."""

    def download(self, title: str, total_bytes: int) -> AbstractContextManager[Callable[[int], None]]:
        """Open a progress bar; call what it yields with each further number of bytes (negative: to be fetched again).

        It is called from several threads.
        """


class SilentProgress:
    """Says nothing."""

    def step(self, text: str) -> None:
        """Say nothing."""

    @contextmanager
    def download(self, title: str, total_bytes: int) -> Iterator[Callable[[int], None]]:  # noqa: ARG002 - see Progress
        """Draw nothing."""
        yield lambda _: None
