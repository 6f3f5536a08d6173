"""Imports."""

from eventstore.db.migrating import run_sql_file

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create what imports stand on."""
    run_sql_file("0004_imports.sql")
