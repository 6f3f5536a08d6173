"""What publishers hold back."""

from eventstore.db.migrating import run_sql_file

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the copy of the parked streams."""
    run_sql_file("0007_publishers.sql")
