-- Snapshots: a cache of folded aggregates. Losing them costs time, never a result.

CREATE TABLE {schema}.snapshots (
    stream_id      text COLLATE "C" NOT NULL,
    fingerprint    text COLLATE "C" NOT NULL,
    stream_version bigint           NOT NULL,
    event_id       uuid             NOT NULL,
    state          text             NOT NULL,
    taken_at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT snapshots_pkey PRIMARY KEY (stream_id, fingerprint)
) WITH (fillfactor = 80);

COMMENT ON TABLE {schema}.snapshots IS 'The latest folded state of an aggregate, for each shape of its code.';
COMMENT ON COLUMN {schema}.snapshots.fingerprint IS
    'The shape of the code that folded it; old and new code run side by side, each with its own.';
COMMENT ON COLUMN {schema}.snapshots.event_id IS 'The event at stream_version; checked when the snapshot is used.';
COMMENT ON COLUMN {schema}.snapshots.state IS 'JSON that only the framework reads, so it is not parsed on the way in.';
