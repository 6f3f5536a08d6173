-- Snapshots, and the way from them to an aggregate.

-- name: load_folded
-- A snapshot (the first row, if there is one) and the events from its version on, or from $5, in one round trip. The
-- event at the snapshot's own version comes too: its id proves that the snapshot belongs to this log. Of the events,
-- only what folding needs: their times would double what a row costs the client, and ids that are looked at for two
-- rows of a page come as bytes, at a tenth of a UUID's cost.
WITH snapshot AS MATERIALIZED (
    SELECT stream_version, event_id, state FROM {schema}.snapshots
     WHERE stream_id = $1 AND fingerprint = $2 AND stream_version <= $3
)
(SELECT NULL::text, NULL::integer, state, stream_version, NULL::bigint, uuid_send(event_id)
   FROM snapshot)
UNION ALL
(SELECT event_type, schema_version, data::text, stream_version, global_position, uuid_send(event_id)
   FROM {schema}.events
  WHERE stream_id = $1
    AND stream_version BETWEEN coalesce((SELECT stream_version FROM snapshot), $5) AND $3
  ORDER BY stream_version
  LIMIT $4)

-- name: load_many
-- The same for many streams in one round trip, at most $3 events of each; the rows of a stream are together, in order,
-- and end in its id.
SELECT part.*, wanted.stream_id
  FROM unnest($1::text[]) WITH ORDINALITY AS wanted (stream_id, n)
 CROSS JOIN LATERAL (
    (SELECT NULL::text, NULL::integer, s.state, s.stream_version, NULL::bigint AS global_position,
            uuid_send(s.event_id)
       FROM {schema}.snapshots s WHERE s.stream_id = wanted.stream_id COLLATE "C" AND s.fingerprint = $2)
    UNION ALL
    (SELECT e.event_type, e.schema_version, e.data::text, e.stream_version, e.global_position, uuid_send(e.event_id)
       FROM {schema}.events e
      WHERE e.stream_id = wanted.stream_id COLLATE "C"
        AND e.stream_version >= coalesce((SELECT s.stream_version FROM {schema}.snapshots s
                                           WHERE s.stream_id = wanted.stream_id COLLATE "C" AND s.fingerprint = $2), 1)
      ORDER BY e.stream_version
      LIMIT $3)
 ) part
 ORDER BY wanted.n, part.global_position NULLS FIRST

-- name: save_snapshot
-- Keep a snapshot, unless a later one of the same shape is there.
INSERT INTO {schema}.snapshots AS kept (stream_id, fingerprint, stream_version, event_id, state)
VALUES ($1, $2, $3, $4, $5)
    ON CONFLICT (stream_id, fingerprint) DO UPDATE
       SET stream_version = excluded.stream_version, event_id = excluded.event_id, state = excluded.state,
           taken_at = clock_timestamp()
     WHERE kept.stream_version < excluded.stream_version

-- name: snapshot_info
-- The snapshots of a stream: fingerprint, version, size in bytes, when.
SELECT fingerprint, stream_version, octet_length(state), taken_at
  FROM {schema}.snapshots WHERE stream_id = $1 ORDER BY taken_at DESC

-- name: delete_snapshots
-- Forget a stream's snapshots; the next load replays.
DELETE FROM {schema}.snapshots WHERE stream_id = $1

-- name: snapshot_versions
-- The version and age of the snapshots of one shape, for some streams.
SELECT stream_id, stream_version, taken_at
  FROM {schema}.snapshots WHERE stream_id = ANY ($1::text[]) AND fingerprint = $2
