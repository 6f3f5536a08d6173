"""The states of whoever follows the log, and the ways between them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

State = Literal["waiting", "starting", "working", "catching up", "live", "backing off", "stopped", "failed"]
"""`waiting`: for its turn; also before `run()`. Who tells no more of its work than that it goes on is `working`."""

FIRST: Final[State] = "waiting"
"""The state of who has not started yet."""

ENDED: Final[frozenset[State]] = frozenset({"stopped", "failed"})
"""The states in which nothing is done any more."""

TRANSITIONS: Final[Mapping[State, frozenset[State]]] = {
    "waiting": frozenset({"catching up", "backing off", "starting", "working", *ENDED}),
    # A subscription.
    "catching up": frozenset({"live", "backing off", *ENDED}),
    "live": frozenset({"catching up", "backing off", *ENDED}),
    "backing off": frozenset({"waiting", "catching up", "live", *ENDED}),
    # Everybody else.
    "starting": frozenset({"waiting", "working", *ENDED}),
    "working": frozenset({"waiting", "starting", *ENDED}),
    # It can be started again.
    "stopped": frozenset({"waiting"}),
    "failed": frozenset({"waiting"}),
}
"""Which states follow on which; to enter the same state again is no transition.

Drawn in `docs/design/subscriptions.md`. No decision hangs on a state, so nothing asks this table while a worker runs: a
stray one must not end work that is sound. The tests do, of every worker that runs in them, and compare the drawing.
"""
