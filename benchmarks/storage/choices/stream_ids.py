"""How a row says which stream it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from benchmarks.storage import rows, variants
from benchmarks.storage.run import Finding, Table, ratios
from benchmarks.storage.variants import SHIPPED, Made, Variant

if TYPE_CHECKING:
    from benchmarks.rounds import Subject
    from benchmarks.storage.run import Run

_C: Final = f'{SHIPPED}: text COLLATE "C"'
_DEFAULT: Final = "text, the database's collation"
_ICU: Final = 'text COLLATE "und-x-icu" (ICU)'
_NUMBER: Final = "a number, the text in `streams`"
_NUMBERED: Final = """
CREATE TABLE {table} (
    global_position bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1) PRIMARY KEY,
    stream_number   bigint      NOT NULL,
    stream_version  bigint      NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    event_id        uuid        NOT NULL,
    schema_version  integer     NOT NULL,
    event_type      text        COLLATE "C" NOT NULL,
    data            json        NOT NULL,
    metadata        json,
    correlation_id  text,
    causation_id    text,
    UNIQUE (stream_number, stream_version),
    UNIQUE ({numbered_key}),
    CHECK (stream_version > 0),
    CHECK (schema_version > 0)
)
"""
_STREAMS: Final = """
DROP TABLE IF EXISTS variants.streams, variants.numbered_streams;
CREATE TABLE variants.streams (LIKE eventstore.streams INCLUDING ALL);
INSERT INTO variants.streams SELECT DISTINCT stream_id FROM source.{source} ORDER BY 1;
CREATE TABLE variants.numbered_streams (
    stream_number bigint PRIMARY KEY, stream_id text COLLATE "C" NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO variants.numbered_streams
SELECT DISTINCT stream_number, stream_id FROM source.{source} ORDER BY 1;
ANALYZE variants.streams, variants.numbered_streams;
"""
_LOADS: Final = """
DO $$
DECLARE streams text[] := ARRAY(SELECT stream_id FROM variants.streams LIMIT 1000);
BEGIN
    SET LOCAL enable_seqscan = off;
    SET LOCAL plan_cache_mode = force_generic_plan;
    FOR i IN 1 .. cardinality(streams) LOOP
        PERFORM e.data::text FROM {events} WHERE {which} = streams[i]{collated} ORDER BY e.stream_version;
    END LOOP;
END $$
"""


def _collated(name: str, collation: str) -> Variant:
    return Variant(name, (f"ALTER TABLE {{table}} ALTER COLUMN stream_id TYPE text COLLATE {collation}",))


async def measure(run: Run) -> Finding:
    """Measure the collations of a stream's id, and what a number in its place would save."""
    finding = Finding("stream-ids", "Stream ids as text, and their collation")
    has_icu = await run.connection.fetchval("SELECT count(*) FROM pg_collation WHERE collname = 'und-x-icu'")
    tried = [
        Variant(_C),
        _collated(_DEFAULT, '"default"'),
        *([_collated(_ICU, '"und-x-icu"')] if has_icu else []),
        Variant(_NUMBER, definition=_NUMBERED, values={"stream_id": None, "stream_number": "stream_number"}),
    ]
    for name, told in ((rows.DEPOSITS_SET, "deposits"), (rows.LOANS_SET, "loan applications")):
        made_of = await rows.source(run, name)
        made = await variants.make(run, made_of, finding.name, tried)
        await run.connection.execute(_STREAMS.format(source=made_of.name))
        growing = await variants.append_rounds(run, f"{finding.name}, {told}", made)
        for one in made.values():
            await run.connection.execute(f"ANALYZE {one.table}")
        loads = await run.interleave(
            f"{finding.name}, {told}, loading", {key: _loading(run, one) for key, one in made.items()}
        )
        size = {key: await variants.sizes(run, one) for key, one in made.items()}
        beside = {key: await _streams_size(run, key, made_of.events) for key in made}
        finding.samples |= {f"µs an event, {told}": growing, f"µs to load a stream, {told}": loads}
        finding.tables.append(
            Table(
                f"{told.capitalize()}, {made_of.events:,} events: bytes an event",
                ["", "table", "indexes", "`streams`", "all", "WAL", "appending, µs", "reading one stream, µs"],
                [
                    [
                        key,
                        size[key].heap,
                        sum(size[key].indexes.values()),
                        beside[key],
                        size[key].total + beside[key],
                        one.wal_in_a_row,
                        variants.middle(growing, key),
                        variants.middle(loads, key),
                    ]
                    for key, one in made.items()
                ],
            )
        )
        if has_icu:
            finding.at_least(f"{told}: time of an append, ICU over C", ratios(growing, _ICU, _C), 1.05)
        finding.at_most(
            f"{told}: all bytes, a number over text",
            [(size[_NUMBER].total + beside[_NUMBER]) / (size[_C].total + beside[_C])],
            0.95,
        )
        await variants.drop(run, made)
    await run.connection.execute("DROP TABLE variants.streams, variants.numbered_streams")
    if not has_icu:
        finding.notes.append("This server was built without ICU, and the database's own collation is C.UTF-8.")
    finding.notes.append(
        "The appends here are given the number. A number would have to be looked up, or drawn, in `streams` first."
    )
    return finding


async def _streams_size(run: Run, variant: str, events: int) -> float:
    table = "variants.numbered_streams" if variant == _NUMBER else "variants.streams"
    size: int = await run.connection.fetchval(f"SELECT pg_total_relation_size('{table}'::regclass)")
    return size / events


def _loading(run: Run, one: Made) -> Subject:
    events, which = f"{one.table} e", "e.stream_id"
    if one.variant.name == _NUMBER:
        events, which = f"{one.table} e JOIN variants.numbered_streams s USING (stream_number)", "s.stream_id"
    collated = {_ICU: ' COLLATE "und-x-icu"', _DEFAULT: ' COLLATE "default"'}.get(one.variant.name, "")
    block = _LOADS.format(events=events, which=which, collated=collated)

    async def subject() -> float:
        streams = await run.connection.fetchval("SELECT least(count(*), 1000) FROM variants.streams")
        return (await run.costs(block)).seconds / float(streams) * 1e6

    return subject
