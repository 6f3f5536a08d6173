"""Snapshots."""

from eventstore.db.migrating import run_sql_file

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the snapshots."""
    run_sql_file("0002_snapshots.sql")
