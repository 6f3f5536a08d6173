"""Following the log: a reader that never skips, the checkpoint it comes back to, and the lease that keeps it alone."""

from eventstore.subscriptions.checkpoints import Checkpoint, Checkpoints
from eventstore.subscriptions.following import Batch, LogFollower
from eventstore.subscriptions.leases import Lease, Leases
from eventstore.subscriptions.progress import Progress

__all__ = ["Batch", "Checkpoint", "Checkpoints", "Lease", "Leases", "LogFollower", "Progress"]
