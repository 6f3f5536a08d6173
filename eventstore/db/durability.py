"""Whether the server keeps what it acknowledges: asked once, when a store is opened.

With `fsync` off a power cut can destroy the whole cluster; with `synchronous_commit` off a mere crash of the server
loses appends that were acknowledged a moment ago. Both are refused. `full_page_writes` off is only warned of: some file
systems write whole pages by themselves.

Where data may be lost (tests), or is kept by other means than PostgreSQL's own (some hosted servers), the same place
that says so switches the check off: `eventstore.durability_check=off`, a setting of the server, the database, the role
or the DSN. There is no switch in code, where it could reach production.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from eventstore.errors import UnsafeServerError

if TYPE_CHECKING:
    from eventstore.db.database import Database

log = logging.getLogger(__name__)

CHECK_OFF: Final = {"eventstore.durability_check": "off"}
"""The setting that says of a server that its data may be lost."""


async def require_durable_server(database: Database) -> None:
    """Check that the server keeps what it acknowledges.

    Raises:
        UnsafeServerError: It does not, and nobody said that this is wanted.
    """
    row = await database.fetchrow("durability_settings")
    assert row is not None  # noqa: S101 - a SELECT without FROM has one row
    fsync, synchronous_commit, full_page_writes, check = row
    if check == "off":
        return
    if fsync == "off":
        raise UnsafeServerError("fsync", "a crash of the machine can destroy everything")
    if synchronous_commit == "off":
        raise UnsafeServerError("synchronous_commit", "a crash of the server loses acknowledged appends")
    if full_page_writes == "off":
        log.warning(
            "PostgreSQL runs with full_page_writes=off: unless the file system writes whole pages by itself, a crash "
            "of the machine can damage the log"
        )
