-- Moving a system in: how far an import has come, and how its streams are taken hold of.

CREATE TABLE {schema}.imports (
    name       text COLLATE "C" NOT NULL,
    rows       bigint           NOT NULL,
    stream_id  text COLLATE "C" NOT NULL,
    event_id   uuid             NOT NULL,
    started_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    updated_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT imports_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.imports IS
    'How many rows of its source an import has brought in, and the event that the last one became; moved in the '
    'transaction that brings the events in, so that an import goes on where it was.';

-- Locks the rows of many streams as an append locks one, and returns where they are. All of them are named in one call,
-- in the order of their ids: so imports never wait for each other in a circle. The rows of new streams come first, and
-- those are made for all that are not there yet, so that the same order holds among two imports that make them.
-- The settings: a plan made while the tables were empty must not outlive that.
CREATE FUNCTION {schema}.claim_streams(p_stream_ids text[])
    RETURNS TABLE (stream_version bigint, recorded_at timestamptz)
    LANGUAGE plpgsql
    SET plan_cache_mode TO force_custom_plan
    SET enable_seqscan TO off
    SET enable_bitmapscan TO off
AS $$
BEGIN
    INSERT INTO {schema}.streams (stream_id)
    SELECT wanted.stream_id
      FROM unnest(p_stream_ids) WITH ORDINALITY AS wanted (stream_id, n)
     WHERE NOT EXISTS (SELECT FROM {schema}.streams s WHERE s.stream_id = wanted.stream_id COLLATE "C")
     ORDER BY wanted.n
        ON CONFLICT DO NOTHING;
    PERFORM 1 FROM {schema}.streams s
      WHERE s.stream_id = ANY (p_stream_ids) ORDER BY s.stream_id FOR NO KEY UPDATE;
    -- A statement of its own, so that it sees what the locks waited for.
    RETURN QUERY
    SELECT coalesce(last.stream_version, 0), last.recorded_at
      FROM unnest(p_stream_ids) WITH ORDINALITY AS wanted (stream_id, n)
      LEFT JOIN LATERAL (
            SELECT e.stream_version, e.recorded_at FROM {schema}.events e
             WHERE e.stream_id = wanted.stream_id COLLATE "C"
             ORDER BY e.stream_version DESC LIMIT 1
           ) last ON true
     ORDER BY wanted.n;
END
$$;

COMMENT ON FUNCTION {schema}.claim_streams IS
    'Locks the rows of streams (ids in order, each once; missing ones are made) and returns their last events.';
