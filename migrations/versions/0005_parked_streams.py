"""Parked streams."""

from eventstore.db.migrating import run_sql_file

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what the failure policies of projections stand on."""
    run_sql_file("0005_parked_streams.sql")
