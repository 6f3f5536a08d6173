"""The log: streams, events, append and the high-water mark."""

from eventstore.db.migrating import run_sql_file

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the log."""
    run_sql_file("0001_log.sql")
