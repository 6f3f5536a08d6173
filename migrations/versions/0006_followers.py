"""What workers report of themselves, and how a run of the server is told from another one."""

from eventstore.db.migrating import run_sql_file

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what followers of the log are watched by, and what they know a server by."""
    run_sql_file("0006_followers.sql")
