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
    stream_id text COLLATE "C" NOT NULL,
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
    -- The id first: ids grow with time, so this index does at its end, whichever streams are written to.
    CONSTRAINT events_event_id_key UNIQUE (event_id, stream_id),
    CONSTRAINT events_stream_version_check CHECK (stream_version > 0),
    CONSTRAINT events_schema_version_check CHECK (schema_version > 0)
) WITH (
    -- VACUUM soon, and freeze at once: before the next checkpoint that costs a fortieth of what it costs after it.
    autovacuum_vacuum_insert_scale_factor = 0,
    autovacuum_vacuum_insert_threshold = 10000,
    autovacuum_freeze_min_age = 0
);

COMMENT ON TABLE {schema}.events IS 'The log, append-only, and its own outbox.';
COMMENT ON COLUMN {schema}.events.global_position IS
    'The place in the log. Gaps are normal: numbers are drawn before a transaction commits, and some never do.';
COMMENT ON COLUMN {schema}.events.stream_version IS 'The number within the stream; the first event is 1, no gaps.';
COMMENT ON COLUMN {schema}.events.occurred_at IS 'Business time, the caller''s.';
COMMENT ON COLUMN {schema}.events.recorded_at IS 'The server''s time, taken under the stream''s lock; never falls in a stream.';
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
    -- step: locks
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

-- Carries out appends in the order given, each whole or not at all, as if they came one after the other.
--
-- p_wait: wait for a stream that another transaction holds; otherwise its appends are answered `busy`.
-- p_streams: the streams of the call, each once, sorted by their bytes: the order in which their rows are locked.
-- For each append: p_stream_numbers (which of p_streams, from 1), p_expected_versions (a version, 0 for no stream, -1
-- for an existing one, -2 for any), p_event_counts (null: one each), and p_look_up_ids (null: none): its ids may have
-- been appended before (the caller chose them, or repeats a call), look for them first; such an append is the only one
-- to its stream in a call.
-- For each event, append by append: p_append_numbers (which append, from 1; null where each has one event), and its
-- columns; a column that is null for all may be null as a whole.
--
-- The answer. outcomes, one an append: `appended`, `wrong_version`, `ids_known` (at least one id is in the stream
-- already), or `busy`. versions, one an append: the stream's version after it. positions: one an appended event.
CREATE FUNCTION {schema}.append(
    p_wait boolean,
    p_streams text[],
    p_stream_numbers integer[],
    p_expected_versions bigint[],
    p_event_counts integer[],
    p_look_up_ids boolean[],
    p_append_numbers integer[],
    p_event_ids uuid[],
    p_event_types text[],
    p_schema_versions integer[],
    p_data text[],
    p_metadata text[],
    p_correlation_ids text[],
    p_causation_ids text[],
    p_occurred_at timestamptz[],
    OUT outcomes text[],
    OUT versions bigint[],
    OUT positions bigint[]
)
    LANGUAGE plpgsql
    -- A plan made while the tables were small would otherwise scan them for as long as the session lives.
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
    SET enable_hashjoin = off
    SET enable_mergejoin = off
AS $$
DECLARE
    counts integer[] := coalesce(p_event_counts, array_fill(1, ARRAY[cardinality(p_stream_numbers)]));
    is_held boolean[] := array_fill(false, ARRAY[cardinality(p_streams)]);
    held_now integer[];
    is_begun boolean[];
    stream_versions bigint[];
    -- Each stream's own: a clock that was wrong once, or an import, is nothing that its neighbours have to do with.
    stamps timestamptz[];
    now_locked timestamptz;
    -- For each append: what to add to an event's number in the call to get its version; null when it is refused.
    offsets bigint[] := array_fill(NULL::bigint, ARRAY[cardinality(p_stream_numbers)]);
    events_before integer := 0;
    is_any_accepted boolean := false;
    their_lock_timeout text;
    s integer;
    version bigint;
    expected bigint;
    fits boolean;
BEGIN
    outcomes := array_fill('busy'::text, ARRAY[cardinality(p_stream_numbers)]);
    versions := array_fill(0::bigint, ARRAY[cardinality(p_stream_numbers)]);

    -- One writer a stream at a time, from here to the end of its transaction. The second time round, the streams that
    -- were not there have been begun.
    -- step: lock
    FOR attempt IN 1 .. 2 LOOP
        IF p_wait THEN
            SELECT array_agg(held.n) INTO held_now
              FROM unnest(p_streams) WITH ORDINALITY AS wanted (stream_id, n)
             CROSS JOIN LATERAL (
                SELECT wanted.n FROM {schema}.streams e
                 WHERE e.stream_id = wanted.stream_id FOR NO KEY UPDATE
             ) held
             WHERE NOT is_held[wanted.n];
        ELSE
            SELECT array_agg(held.n) INTO held_now
              FROM unnest(p_streams) WITH ORDINALITY AS wanted (stream_id, n)
             CROSS JOIN LATERAL (
                SELECT wanted.n FROM {schema}.streams e
                 WHERE e.stream_id = wanted.stream_id FOR NO KEY UPDATE SKIP LOCKED
             ) held
             WHERE NOT is_held[wanted.n];
        END IF;
        FOREACH s IN ARRAY coalesce(held_now, '{}') LOOP
            is_held[s] := true;
        END LOOP;
        EXIT WHEN attempt = 2 OR cardinality(held_now) = cardinality(p_streams);

        -- step: begin_streams
        their_lock_timeout := current_setting('lock_timeout');
        BEGIN
            -- SKIP LOCKED does not see a stream that another open transaction is beginning: wait for it, but not long.
            IF NOT p_wait THEN
                PERFORM set_config('lock_timeout', '10ms', true);
            END IF;
            INSERT INTO {schema}.streams (stream_id)
            SELECT DISTINCT p_streams[a.n]
              FROM unnest(p_stream_numbers, p_expected_versions) AS a (n, expected)
             WHERE a.expected IN (0, -2)
               AND NOT is_held[a.n]
               AND NOT EXISTS (SELECT FROM {schema}.streams e WHERE e.stream_id = p_streams[a.n])
             ORDER BY 1
                ON CONFLICT DO NOTHING;
            PERFORM set_config('lock_timeout', their_lock_timeout, true);
        EXCEPTION WHEN lock_not_available THEN
            IF p_wait THEN
                RAISE;
            END IF;
        END;
    END LOOP;

    -- A statement of its own, so that it sees what the locks waited for.
    -- step: read
    now_locked := clock_timestamp();
    SELECT array_agg(coalesce(last.stream_version, 0) ORDER BY wanted.n),
           array_agg(greatest(now_locked, last.recorded_at) ORDER BY wanted.n)
      INTO stream_versions, stamps
      FROM unnest(p_streams) WITH ORDINALITY AS wanted (stream_id, n)
      LEFT JOIN LATERAL (
        SELECT e.stream_version, e.recorded_at
          FROM {schema}.events e
         WHERE e.stream_id = wanted.stream_id
         ORDER BY e.stream_version DESC
         LIMIT 1
      ) last ON true;

    FOR a IN 1 .. cardinality(p_stream_numbers) LOOP
        s := p_stream_numbers[a];
        version := stream_versions[s];
        expected := p_expected_versions[a];
        fits := expected = version OR expected = -2 OR (expected = -1 AND version > 0);
        IF NOT is_held[s] THEN
            -- Held by somebody, or not there. Only an append that begins it could wait for the latter, and those behind
            -- such an append wait with it: what they expect may be what it makes.
            IF version = 0 AND NOT fits AND is_begun[s] IS NULL THEN
                outcomes[a] := 'wrong_version';
            ELSE
                is_begun[s] := true;
            END IF;
        ELSIF fits AND NOT coalesce(p_look_up_ids[a], false) THEN
            outcomes[a] := 'appended';
        ELSIF EXISTS (
            SELECT FROM {schema}.events e
             WHERE e.stream_id = p_streams[s]
               AND e.event_id = ANY (p_event_ids[events_before + 1 : events_before + counts[a]])
        ) THEN
            outcomes[a] := 'ids_known';
        ELSIF fits THEN
            outcomes[a] := 'appended';
        ELSE
            outcomes[a] := 'wrong_version';
        END IF;
        IF outcomes[a] = 'appended' THEN
            is_any_accepted := true;
            offsets[a] := version - events_before;
            version := version + counts[a];
            stream_versions[s] := version;
        END IF;
        versions[a] := version;
        events_before := events_before + counts[a];
    END LOOP;
    IF NOT is_any_accepted THEN
        RETURN;
    END IF;

    -- After the checks, so that losers draw no positions; before the insert, so that readers know.
    -- step: announce
    PERFORM {schema}.take_low_water_lock();
    -- step: insert
    WITH inserted AS (
        INSERT INTO {schema}.events
               (stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
                correlation_id, causation_id, occurred_at, recorded_at)
        SELECT p_streams[p_stream_numbers[coalesce(a, n::integer)]], offsets[coalesce(a, n::integer)] + n, event_id, event_type, schema_version,
               data::json, metadata::json, correlation_id, causation_id, occurred_at,
               stamps[p_stream_numbers[coalesce(a, n::integer)]]
          FROM unnest(p_append_numbers, p_event_ids, p_event_types, p_schema_versions, p_data, p_metadata,
                      p_correlation_ids, p_causation_ids, p_occurred_at)
               WITH ORDINALITY
               AS new (a, event_id, event_type, schema_version, data, metadata, correlation_id, causation_id,
                       occurred_at, n)
         WHERE offsets[coalesce(a, n::integer)] IS NOT NULL
         ORDER BY n
        RETURNING global_position
    )
    SELECT array_agg(global_position) INTO positions FROM inserted;
END
$$;

COMMENT ON FUNCTION {schema}.append IS 'Carries out appends in order: lock, read, check, announce, insert.';

-- The same for one append of one event, as it comes where nobody else is appending just now: half of the work, because
-- no arrays are taken apart. Only what is to be expected is done here, an append to a stream that is there, at the
-- version that it has; whatever else there is to decide is decided in one place, above.
CREATE FUNCTION {schema}.append_one(
    p_wait boolean,
    p_stream_id text,
    p_expected_version bigint,
    p_event_id uuid,
    p_event_type text,
    p_schema_version integer,
    p_data text,
    p_metadata text,
    p_correlation_id text,
    p_causation_id text,
    p_occurred_at timestamptz,
    OUT outcome text,
    OUT version bigint,
    OUT drawn bigint
)
    LANGUAGE plpgsql
    -- As above.
    SET plan_cache_mode = force_generic_plan
    SET enable_seqscan = off
AS $$
DECLARE
    last_recorded_at timestamptz;
BEGIN
    IF p_wait THEN
        PERFORM FROM {schema}.streams WHERE stream_id = p_stream_id FOR NO KEY UPDATE;
    ELSE
        PERFORM FROM {schema}.streams WHERE stream_id = p_stream_id FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF FOUND THEN
        SELECT e.stream_version, e.recorded_at INTO version, last_recorded_at
          FROM {schema}.events e WHERE e.stream_id = p_stream_id ORDER BY e.stream_version DESC LIMIT 1;
        IF version = p_expected_version OR version > 0 AND p_expected_version < 0 THEN
            -- step: announce
            PERFORM {schema}.take_low_water_lock();
            outcome := 'appended';
            version := version + 1;
            -- step: insert
            INSERT INTO {schema}.events
                   (stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
                    correlation_id, causation_id, occurred_at, recorded_at)
            VALUES (p_stream_id, version, p_event_id, p_event_type, p_schema_version, p_data::json, p_metadata::json,
                    p_correlation_id, p_causation_id, p_occurred_at, greatest(clock_timestamp(), last_recorded_at))
            RETURNING global_position INTO drawn;
            RETURN;
        END IF;
    END IF;
    SELECT outcomes[1], versions[1], positions[1] INTO outcome, version, drawn
      FROM {schema}.append(
               p_wait, ARRAY[p_stream_id], ARRAY[1], ARRAY[p_expected_version], NULL, NULL, NULL, ARRAY[p_event_id],
               ARRAY[p_event_type], ARRAY[p_schema_version], ARRAY[p_data], ARRAY[p_metadata], ARRAY[p_correlation_id],
               ARRAY[p_causation_id], ARRAY[p_occurred_at]);
END
$$;

COMMENT ON FUNCTION {schema}.append_one IS 'Carries out one append of one event, as append does.';

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
