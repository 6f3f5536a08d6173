"""Alembic's entry: `eventstore migrate` and the plain `alembic` command both come through here."""

from eventstore.db.migrating import run_environment

run_environment()
