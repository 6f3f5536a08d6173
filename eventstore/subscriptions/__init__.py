"""Following the log: a reader that never skips, the checkpoint it comes back to, and the lease that keeps it alone."""

from eventstore.subscriptions.checkpoints import Checkpoint, Checkpoints
from eventstore.subscriptions.declared import Subscription, SubscriptionContext
from eventstore.subscriptions.following import Batch, LogFollower
from eventstore.subscriptions.leases import Lease, Leases
from eventstore.subscriptions.managing import delete_subscription, reset_subscription
from eventstore.subscriptions.progress import Progress
from eventstore.subscriptions.reader import EventBatch, SubscriptionReader
from eventstore.subscriptions.starting import END, recorded_from
from eventstore.subscriptions.transient import Following
from eventstore.subscriptions.worker import SubscriptionWorker

__all__ = [
    "END",
    "Batch",
    "Checkpoint",
    "Checkpoints",
    "EventBatch",
    "Following",
    "Lease",
    "Leases",
    "LogFollower",
    "Progress",
    "Subscription",
    "SubscriptionContext",
    "SubscriptionReader",
    "SubscriptionWorker",
    "delete_subscription",
    "recorded_from",
    "reset_subscription",
]
