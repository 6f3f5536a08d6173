"""The only layer that touches the driver: connections, queries by name, errors in the framework's own terms.

Migrations are in `migrating`, imported where they are run: a service need not load Alembic.
"""

from eventstore.db.answering import Answering, answering
from eventstore.db.database import DEFAULT_SCHEMA, Connection, Database, Session
from eventstore.db.durability import require_durable_server
from eventstore.db.errors import ConnectionLostError
from eventstore.db.queries import Queries
from eventstore.db.revisions import require_current_schema, revision_of

__all__ = [
    "DEFAULT_SCHEMA",
    "Answering",
    "Connection",
    "ConnectionLostError",
    "Database",
    "Queries",
    "Session",
    "answering",
    "require_current_schema",
    "require_durable_server",
    "revision_of",
]
