-- What publishers leave in PostgreSQL beside their leases and checkpoints: a copy of what they hold back.

-- name: note_parked
-- Let the copy of a publisher's (or group's) parked streams say what its cursor says.
WITH gone AS (
    DELETE FROM {schema}.publisher_parked WHERE name = $1 AND stream_id <> ALL ($2::text[])
)
INSERT INTO {schema}.publisher_parked (name, stream_id, first_position, stream_version, reason, parked_at)
SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::timestamptz[])
    ON CONFLICT (name, stream_id) DO UPDATE
       SET first_position = excluded.first_position, stream_version = excluded.stream_version,
           reason = excluded.reason, parked_at = excluded.parked_at

-- name: save_mirror
-- Move a publisher's (or group's) checkpoint $1 as save_checkpoint does, and let the copy of its parked streams, under its
-- name $6, say what its cursor says. All in one statement: whoever is frozen between two would hold a lock on the
-- checkpoint, and its heir could not move it.
WITH moved AS (
    INSERT INTO {schema}.checkpoints AS kept (name, global_position, event_id, epoch)
    SELECT $1, $2, $3, $4
     WHERE ($5::bigint = 0 OR EXISTS (SELECT FROM {schema}.checkpoints WHERE name = $1))
       AND ($3::uuid IS NULL OR EXISTS (SELECT FROM {schema}.events WHERE global_position = $2 AND event_id = $3))
        ON CONFLICT (name) DO UPDATE
           SET global_position = excluded.global_position, event_id = excluded.event_id, epoch = excluded.epoch,
               updated_at = clock_timestamp()
         WHERE kept.global_position = $5 AND kept.epoch <= excluded.epoch
    RETURNING global_position
), gone AS (
    DELETE FROM {schema}.publisher_parked
     WHERE name = $6 AND stream_id <> ALL ($7::text[]) AND EXISTS (SELECT FROM moved)
), held AS (
    INSERT INTO {schema}.publisher_parked (name, stream_id, first_position, stream_version, reason, parked_at)
    SELECT $6, one.*
      FROM unnest($7::text[], $8::bigint[], $9::bigint[], $10::text[], $11::timestamptz[]) AS one
     WHERE EXISTS (SELECT FROM moved)
        ON CONFLICT (name, stream_id) DO UPDATE
           SET first_position = excluded.first_position, stream_version = excluded.stream_version,
               reason = excluded.reason, parked_at = excluded.parked_at
)
SELECT global_position FROM moved

-- name: list_parked_by_publishers
-- What publishers (by the names of their groups) hold back: the stream, its first held event, and how many it is by now.
SELECT p.name, p.stream_id, p.first_position, p.stream_version, p.reason, p.parked_at, held.events
  FROM {schema}.publisher_parked p
 CROSS JOIN LATERAL (
    SELECT count(*) AS events FROM {schema}.events e
     WHERE e.stream_id = p.stream_id AND e.stream_version >= p.stream_version
 ) held
 WHERE p.name = ANY ($1::text[])
 ORDER BY p.parked_at, p.stream_id

-- name: note_unpublished
-- Note who goes on publishing without an event, and why; the note stays.
INSERT INTO {schema}.discarded_events
       (consumer, stream_id, stream_version, global_position, event_id, event_type, error_type, error, failed_at,
        discarded_by, reason)
VALUES ($1, $2, $3, $4, $5, $6, 'cannot be published', $7, $8, $9, $10)

-- name: list_held_events
-- The first held events of a stream, without their payloads: only how large those are.
SELECT stream_version, global_position, event_type, octet_length(data::text), recorded_at
  FROM {schema}.events
 WHERE stream_id = $1 AND stream_version >= $2
 ORDER BY stream_version
 LIMIT $3

-- name: delete_ended_leases
-- Forget leases whose names begin with $1 and that ended a while ago: those of processes, which never come back.
DELETE FROM {schema}.leases WHERE starts_with(name, $1) AND expires_at < clock_timestamp() - interval '1 minute'
