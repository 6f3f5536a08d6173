"""Values by chance through real PostgreSQL: the identical value comes back, or it is refused before any SQL.

    make campaign            the long form: a million payloads
    make test                the quick form: 5,000

The same campaign must catch what would break the promise: a column that changes numbers, no proof of the round trip,
and a proof by `==`.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import AsyncIterator
from itertools import islice
from typing import Any

import asyncpg
import pytest
from pydantic import BaseModel

from eventstore import NO_STREAM, EventStore
from eventstore.codec import payload
from eventstore.errors import UnreadablePayloadError, UnstorablePayloadError
from eventstore.metadata import NO_METADATA
from fixtures.values import MAX_PAYLOAD, Bare, Broad, Deep, Loose, Lossy, Payloads, Tame, app, described

BATCH = 1000


class ValueChangedError(AssertionError):
    """What came back is not what was appended."""


@pytest.fixture
async def store(dsn: str) -> AsyncIterator[EventStore]:
    """A store of the values on PostgreSQL."""
    async with EventStore.open(dsn, app, max_payload=MAX_PAYLOAD) as store:
        yield store


def seeded() -> random.Random:
    seed = int(os.environ.get("EVENTSTORE_SEED", random.randrange(2**32)))
    print(f"EVENTSTORE_SEED={seed}")  # noqa: T201 - shown when the test fails
    return random.Random(seed)


def is_storable(store: EventStore, event: BaseModel) -> bool:
    """Whether the codec takes an event; any error but the one that says so is a failure."""
    try:
        store.codec.encode(event, NO_METADATA)
    except UnstorablePayloadError:
        return False
    return True


async def through_the_log(store: EventStore, stream_id: str, events: list[BaseModel]) -> None:
    """Append events and hold what is read back against them."""
    await store.append(stream_id, events, expected_version=NO_STREAM)
    back = await store.read_stream(stream_id).to_list()
    assert len(back) == len(events)
    for given, recorded in zip(events, back, strict=True):
        if described(given) != described(recorded.data):
            raise ValueChangedError(f"{given!r} came back as {recorded.data!r}")


async def send_through(store: EventStore, chance: random.Random, count: int) -> Counter[tuple[type, bool]]:
    """Send payloads through a store, in batches; returns how many of each model were stored and refused."""
    tally: Counter[tuple[type, bool]] = Counter()
    payloads = iter(Payloads(chance))
    for number in range(count // BATCH):
        events = list(islice(payloads, BATCH))
        storable = [event for event in events if is_storable(store, event)]
        refused = [event for event in events if not is_storable(store, event)]
        await through_the_log(store, f"value-{number}", storable)
        if refused:
            with pytest.raises(UnstorablePayloadError):
                await store.append(f"value-{number}-refused", [storable[0], chance.choice(refused)], expected_version=0)
        tally.update((type(event), True) for event in storable)
        tally.update((type(event), False) for event in refused)
    return tally


async def test_a_value_comes_back_identical_or_is_refused_before_sql(
    store: EventStore, connection: asyncpg.Connection, pytestconfig: pytest.Config
) -> None:
    count = 1_000_000 if pytestconfig.getoption("campaign") else 5_000

    tally = await send_through(store, seeded(), count)

    print(tally)  # noqa: T201 - the campaign's result
    assert tally.total() == count
    assert tally[Tame, False] == 0
    for model in (Bare, Broad, Loose, Lossy, Deep):  # a campaign that stores all or nothing proves nothing
        assert tally[model, True] > count / 1000  # the rarest of them has a share of one in a hundred
        assert tally[model, False] > count / 1000
    assert await connection.fetchval("SELECT count(*) FROM eventstore.events") == sum(
        number for (_, stored), number in tally.items() if stored
    )
    assert await connection.fetchval("SELECT count(*) FROM eventstore.streams") == count // BATCH


# --- what it must catch ----------------------------------------------------------------------------------------------


async def test_a_jsonb_column_is_caught(store: EventStore, connection: asyncpg.Connection) -> None:
    await connection.execute("ALTER TABLE eventstore.events ALTER COLUMN data TYPE jsonb")

    with pytest.raises(ValueChangedError):
        await send_through(store, seeded(), 2 * BATCH)


async def test_a_missing_proof_of_the_round_trip_is_caught(store: EventStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(payload, "_prove_round_trip", lambda *_: None)

    with pytest.raises((ValueChangedError, UnreadablePayloadError)):
        await send_through(store, seeded(), 2 * BATCH)


async def test_a_proof_that_only_asks_for_equality_is_caught(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unequal(given: Any, back: Any) -> list[str]:
        return [] if given.__dict__ == back.__dict__ and given.__pydantic_extra__ == back.__pydantic_extra__ else ["x"]

    monkeypatch.setattr(payload, "changed_fields", unequal)

    with pytest.raises(ValueChangedError):
        await send_through(store, seeded(), 2 * BATCH)


async def test_a_proof_by_types_that_only_knows_the_model_is_caught(
    store: EventStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "is_proven", lambda event, _: type(event) is Bare)

    with pytest.raises((ValueChangedError, UnreadablePayloadError)):
        await send_through(store, seeded(), 2 * BATCH)
