"""The log is append-only: a wrong event is corrected by another one, never changed, whoever tries."""

from __future__ import annotations

import asyncpg
import pytest

from eventstore import NO_STREAM, EventStore
from fixtures.shop import SHIPPED, placed

CHANGES = {
    "update": "UPDATE eventstore.events SET data = '{}'",
    "update of what is the same": "UPDATE eventstore.events SET event_type = event_type",
    "delete": "DELETE FROM eventstore.events",
    "delete of one": "DELETE FROM eventstore.events WHERE stream_version = 2",
    "truncate": "TRUNCATE eventstore.events",
    "truncate with others": "TRUNCATE eventstore.streams, eventstore.events CASCADE",
    "merge": "MERGE INTO eventstore.events e USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE",
    "upsert": """
        INSERT INTO eventstore.events OVERRIDING SYSTEM VALUE SELECT * FROM eventstore.events
            ON CONFLICT (global_position) DO UPDATE SET data = '{}'
    """,
}


@pytest.mark.origin("commanded")
@pytest.mark.parametrize("role", ["origin", "replica", "local"])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_no_event_is_ever_changed(
    any_postgres: EventStore, own_connection: asyncpg.Connection, change: str, role: str
) -> None:
    await any_postgres.append("order-1", [placed(), SHIPPED], expected_version=NO_STREAM)
    before = await any_postgres.read_all().to_list()

    with pytest.raises(asyncpg.RestrictViolationError, match="append-only"):
        async with own_connection.transaction():
            await own_connection.execute(f"SET LOCAL session_replication_role = {role}")
            await own_connection.execute(change)

    assert await any_postgres.read_all().to_list() == before


@pytest.mark.origin("commanded")
async def test_the_refusal_says_what_to_do_instead(
    any_postgres: EventStore, own_connection: asyncpg.Connection
) -> None:
    await any_postgres.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(asyncpg.RestrictViolationError) as raised:
        await own_connection.execute("DELETE FROM eventstore.events")

    assert raised.value.hint == "Correct a wrong event by appending another one."


ROWS = {
    "version 0": (0, "'x'"),
    "a version that is taken": (1, "'x'"),
    "no event type": (2, "NULL"),
}


@pytest.mark.parametrize(("version", "event_type"), ROWS.values(), ids=ROWS)
async def test_a_row_written_by_hand_that_cannot_be_is_refused(
    any_postgres: EventStore, own_connection: asyncpg.Connection, version: int, event_type: str
) -> None:
    await any_postgres.append("order-1", [placed()], expected_version=NO_STREAM)

    with pytest.raises(asyncpg.IntegrityConstraintViolationError):
        await own_connection.execute(f"""
            INSERT INTO eventstore.events
                (stream_id, stream_version, event_id, event_type, schema_version, data, occurred_at, recorded_at)
            VALUES ('order-1', {version}, gen_random_uuid(), {event_type}, 1, '{{}}', now(), now())
        """)
