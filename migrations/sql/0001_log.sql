-- The log: streams, events, and the two functions that writers and readers depend on.
-- {schema} is the PostgreSQL schema of the store, {namespace} its number among advisory locks (0 to 32767).

-- --- helpers that Python has too ---------------------------------------------------------------------------------

CREATE FUNCTION {schema}.category_of(stream_id text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN split_part(split_part(stream_id, '/', -1), '-', 1);

COMMENT ON FUNCTION {schema}.category_of IS 'The category of a stream id ([tenant/]category-key).';

CREATE FUNCTION {schema}.slice_of(stream_id text) RETURNS integer
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN (get_byte(sha256(convert_to(stream_id, 'UTF8')), 0) << 8
            | get_byte(sha256(convert_to(stream_id, 'UTF8')), 1)) & 1023;

COMMENT ON FUNCTION {schema}.slice_of IS
    'The slice of a stream, 0 to 1023: the low ten bits of the first two bytes of its SHA-256. Never changes.';

-- --- tables --------------------------------------------------------------------------------------------------------

CREATE TABLE {schema}.streams (
    stream_id  text COLLATE "C" NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT streams_pkey PRIMARY KEY (stream_id)
);

COMMENT ON TABLE {schema}.streams IS
    'One row a stream: what appenders lock. An append never updates it, so that it leaves no dead versions.';

CREATE TABLE {schema}.events (
    global_position bigint      GENERATED ALWAYS AS IDENTITY (CACHE 1),
    stream_version  bigint      NOT NULL,
    occurred_at     timestamptz NOT NULL,
    recorded_at     timestamptz NOT NULL,
    event_id        uuid        NOT NULL,
    schema_version  integer     NOT NULL,
    stream_id       text        COLLATE "C" NOT NULL,
    event_type      text        COLLATE "C" NOT NULL,
    data            json        NOT NULL,
    metadata        json,
    correlation_id  text,
    causation_id    text,
    CONSTRAINT events_pkey PRIMARY KEY (global_position),
    CONSTRAINT events_stream_version_key UNIQUE (stream_id, stream_version),
    CONSTRAINT events_event_id_key UNIQUE (stream_id, event_id),
    CONSTRAINT events_stream_version_check CHECK (stream_version > 0),
    CONSTRAINT events_schema_version_check CHECK (schema_version > 0)
);

COMMENT ON TABLE {schema}.events IS 'The log, append-only, and its own outbox.';
COMMENT ON COLUMN {schema}.events.global_position IS
    'The place in the log. Gaps are normal: numbers are drawn before a transaction commits, and some never do.';
COMMENT ON COLUMN {schema}.events.stream_version IS 'The number within the stream; the first event is 1, no gaps.';
COMMENT ON COLUMN {schema}.events.occurred_at IS 'Business time, the caller''s.';
COMMENT ON COLUMN {schema}.events.recorded_at IS 'The server''s time, taken under the stream''s lock; never falls.';
COMMENT ON COLUMN {schema}.events.data IS 'json, not jsonb: jsonb turns 1e22 into an integer and -0.0 into 0.0.';

-- --- the low-water lock ----------------------------------------------------------------------------------------------

-- Whoever is about to draw positions first holds a shared advisory lock that names the last position drawn by then: its
-- floor. A reader that sees the lock stays at or below the floor, because everything above may still be uncommitted.
-- One lock is enough for a transaction, the first has the lowest floor: a transaction-local setting, bound to the
-- transaction's id, remembers it, and a savepoint that is rolled back forgets setting and lock together.
CREATE FUNCTION {schema}.take_low_water_lock() RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    this_transaction text := pg_current_xact_id()::text;
BEGIN
    IF current_setting('eventstore.low_water_{namespace}', true) IS DISTINCT FROM this_transaction THEN
        PERFORM pg_advisory_xact_lock_shared({namespace}::bigint << 48 | CASE WHEN is_called THEN last_value ELSE 0 END)
           FROM {schema}.events_global_position_seq;
        PERFORM set_config('eventstore.low_water_{namespace}', this_transaction, true);
    END IF;
END
$$;

COMMENT ON FUNCTION {schema}.take_low_water_lock IS
    'Announces, once in a transaction, that positions above the last one drawn may appear late.';

-- The position up to which nothing can appear late any more. The order matters: first the sequence, then the locks.
-- Whoever drew a number up to `drawn` held its lock before `drawn` was read; if the lock is gone, so is the
-- transaction, and its rows are visible to the next statement. So read the events in a statement after this one.
CREATE FUNCTION {schema}.high_water() RETURNS bigint
    LANGUAGE plpgsql
AS $$
DECLARE
    drawn bigint;
    floor bigint;
BEGIN
    SELECT CASE WHEN is_called THEN last_value ELSE 0 END INTO drawn FROM {schema}.events_global_position_seq;
    SELECT min((classid::bigint << 32 | objid::bigint) & x'ffffffffffff'::bigint) INTO floor
      FROM pg_catalog.pg_locks
     WHERE locktype = 'advisory'
       AND objsubid = 1
       AND mode = 'ShareLock'
       AND classid::bigint >> 16 = {namespace}
       AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database());
    RETURN least(drawn, floor);
END
$$;

COMMENT ON FUNCTION {schema}.high_water IS 'The position up to which every event that will ever be there is visible.';

-- --- append ----------------------------------------------------------------------------------------------------------

-- Appends events to one stream. expected_version: a version, 0 for no stream, -1 for an existing one, -2 for any.
-- look_up_ids: the ids may have been appended before (the caller chose them, or repeats a call): look for them first.
-- outcome: 'appended' (version and position of the last event), 'wrong_version' (version is the actual one), or
-- 'ids_known' (at least one id is in the stream already; nothing was appended).
CREATE FUNCTION {schema}.append(
    p_stream_id text,
    p_expected_version bigint,
    p_look_up_ids boolean,
    p_event_ids uuid[],
    p_event_types text[],
    p_schema_versions integer[],
    p_data text[],
    p_metadata text[],
    p_correlation_ids text[],
    p_causation_ids text[],
    p_occurred_at timestamptz[],
    OUT outcome text,
    OUT version bigint,
    OUT last_position bigint
)
    LANGUAGE plpgsql
AS $$
DECLARE
    last_recorded_at timestamptz;
BEGIN
    -- One writer a stream at a time, from here to the end of its transaction.
    PERFORM 1 FROM {schema}.streams s WHERE s.stream_id = p_stream_id FOR NO KEY UPDATE;
    IF NOT FOUND THEN
        IF p_expected_version > 0 OR p_expected_version = -1 THEN
            outcome := 'wrong_version';
            version := 0;
            RETURN;
        END IF;
        INSERT INTO {schema}.streams (stream_id) VALUES (p_stream_id) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            PERFORM 1 FROM {schema}.streams s WHERE s.stream_id = p_stream_id FOR NO KEY UPDATE;
        END IF;
    END IF;

    -- A statement of its own, so that it sees what the lock waited for.
    SELECT e.stream_version, e.recorded_at INTO version, last_recorded_at
      FROM {schema}.events e
     WHERE e.stream_id = p_stream_id
     ORDER BY e.stream_version DESC
     LIMIT 1;
    version := coalesce(version, 0);

    IF p_look_up_ids
       OR NOT (p_expected_version = version OR p_expected_version = -2 OR (p_expected_version = -1 AND version > 0))
    THEN
        PERFORM 1 FROM {schema}.events e WHERE e.stream_id = p_stream_id AND e.event_id = ANY (p_event_ids) LIMIT 1;
        IF FOUND THEN
            outcome := 'ids_known';
            RETURN;
        END IF;
    END IF;
    IF NOT (p_expected_version = version OR p_expected_version = -2 OR (p_expected_version = -1 AND version > 0)) THEN
        outcome := 'wrong_version';
        RETURN;
    END IF;

    -- After the check, so that losers draw no positions; before the insert, so that readers know.
    PERFORM {schema}.take_low_water_lock();
    INSERT INTO {schema}.events
           (stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
            correlation_id, causation_id, occurred_at, recorded_at)
    SELECT p_stream_id, version + n, event_id, event_type, schema_version, data::json, metadata::json,
           correlation_id, causation_id, occurred_at, greatest(clock_timestamp(), last_recorded_at)
      FROM unnest(p_event_ids, p_event_types, p_schema_versions, p_data, p_metadata,
                  p_correlation_ids, p_causation_ids, p_occurred_at)
           WITH ORDINALITY
           AS new (event_id, event_type, schema_version, data, metadata, correlation_id, causation_id, occurred_at, n)
     ORDER BY n;

    outcome := 'appended';
    version := version + cardinality(p_event_ids);
    last_position := currval('{schema}.events_global_position_seq');
END
$$;

COMMENT ON FUNCTION {schema}.append IS 'Appends events to one stream: lock, read, check, announce, insert.';

-- --- guards --------------------------------------------------------------------------------------------------------

CREATE FUNCTION {schema}.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only: % is not allowed', TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Correct a wrong event by appending another one.';
END
$$;

CREATE FUNCTION {schema}.announce_insert() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM {schema}.take_low_water_lock();
    RETURN NULL;
END
$$;

CREATE TRIGGER events_no_change BEFORE UPDATE OR DELETE ON {schema}.events
    FOR EACH ROW EXECUTE FUNCTION {schema}.refuse_change();
CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.refuse_change();
-- Rows that come by COPY or a hand-written INSERT must not pass the low-water lock by.
CREATE TRIGGER events_announce_insert BEFORE INSERT ON {schema}.events
    FOR EACH STATEMENT EXECUTE FUNCTION {schema}.announce_insert();
-- Also for replication roles.
ALTER TABLE {schema}.events ENABLE ALWAYS TRIGGER events_no_change;
ALTER TABLE {schema}.events ENABLE ALWAYS TRIGGER events_no_truncate;
ALTER TABLE {schema}.events ENABLE ALWAYS TRIGGER events_announce_insert;
