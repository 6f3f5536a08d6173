-- Bulk import. The rows themselves go by COPY: see `ConnectionSession.copy_events`.

-- name: import_progress
-- How many rows an import has brought in, and the event that the last of them became.
SELECT rows, stream_id, event_id FROM {schema}.imports WHERE name = $1

-- name: advance_import
-- Note in the transaction of a chunk that an import has come from row $2 (0 to begin) to row $3, which became this event.
INSERT INTO {schema}.imports AS kept (name, rows, stream_id, event_id)
SELECT $1, $3, $4, $5 WHERE $2::bigint = 0 OR EXISTS (SELECT FROM {schema}.imports WHERE name = $1)
    ON CONFLICT (name) DO UPDATE
       SET rows = excluded.rows, stream_id = excluded.stream_id, event_id = excluded.event_id,
           updated_at = clock_timestamp()
     WHERE kept.rows = $2
RETURNING rows

-- name: claim_streams
-- Lock streams (ids in order, each once; missing ones are made) until the transaction ends; returns for each of them, in
-- the same order, its last version and time, and the server's time now.
SELECT stream_version, recorded_at, clock_timestamp() FROM {schema}.claim_streams($1)

-- name: stream_heads
-- The same, without holding them.
SELECT coalesce(last.stream_version, 0), last.recorded_at, clock_timestamp()
  FROM unnest($1::text[]) WITH ORDINALITY AS wanted (stream_id, n)
  LEFT JOIN LATERAL (
        SELECT e.stream_version, e.recorded_at FROM {schema}.events e
         WHERE e.stream_id = wanted.stream_id COLLATE "C"
         ORDER BY e.stream_version DESC LIMIT 1
       ) last ON true
 ORDER BY wanted.n

-- name: first_known_id
-- The first of these events (stream $1[i], id $2[i]) that is there already, by its number in the arrays.
SELECT wanted.n FROM unnest($1::text[], $2::uuid[]) WITH ORDINALITY AS wanted (stream_id, event_id, n)
 WHERE EXISTS (SELECT FROM {schema}.events e
                WHERE e.stream_id = wanted.stream_id COLLATE "C" AND e.event_id = wanted.event_id)
 ORDER BY wanted.n
 LIMIT 1
