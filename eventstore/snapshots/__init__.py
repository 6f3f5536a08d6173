"""Snapshots: folding aggregates in the background, so that loading them stays cheap."""

from eventstore.snapshots.manager import SnapshotManager
from eventstore.snapshots.policies import Lag, Policy, after, any_of, every, on_event, slower_than
from eventstore.snapshots.taking import Verification, take_snapshot, verify_snapshot

__all__ = [
    "Lag",
    "Policy",
    "SnapshotManager",
    "Verification",
    "after",
    "any_of",
    "every",
    "on_event",
    "slower_than",
    "take_snapshot",
    "verify_snapshot",
]
