"""Checkpoints, leases and Kafka offsets."""

from eventstore.db.migrating import run_sql_file

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what follows the log."""
    run_sql_file("0003_subscriptions.sql")
