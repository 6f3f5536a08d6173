-- Streams that a projection holds back, who works, and how far others may read.

-- name: is_any_stream_parked
-- Whether a consumer holds any stream back.
SELECT EXISTS (SELECT FROM {schema}.parked_streams WHERE consumer = $1)

-- name: parked_among
-- Those of some streams that a consumer holds back.
SELECT stream_id FROM {schema}.parked_streams WHERE consumer = $1 AND stream_id = ANY ($2::text[])

-- name: count_parked_streams
-- How many streams a consumer holds back.
SELECT count(*)::integer FROM {schema}.parked_streams WHERE consumer = $1

-- name: parked_by_consumer
-- How many streams each consumer, and each group of a publisher, holds back, and since when.
SELECT consumer, count(*)::integer AS streams, min(failed_at) AS since
  FROM {schema}.parked_streams GROUP BY consumer
 UNION ALL
SELECT 'publisher:' || name, count(*)::integer, min(parked_at)
  FROM {schema}.publisher_parked GROUP BY name
 ORDER BY consumer

-- name: list_parked_streams
-- The streams that a consumer ($1, all of them if null) holds back, oldest first, and up to which version there is more.
SELECT p.consumer, p.stream_id, p.from_version, p.from_position, p.event_id, p.event_type, p.error_type, p.error,
       p.attempts, p.failed_at, last.stream_version
  FROM {schema}.parked_streams p
 CROSS JOIN LATERAL (
    SELECT max(stream_version) AS stream_version FROM {schema}.events e WHERE e.stream_id = p.stream_id
 ) last
 WHERE $1::text IS NULL OR p.consumer = $1
 ORDER BY p.consumer, p.from_position

-- name: parked_stream
-- One stream that a consumer holds back.
SELECT p.consumer, p.stream_id, p.from_version, p.from_position, p.event_id, p.event_type, p.error_type, p.error,
       p.attempts, p.failed_at, last.stream_version
  FROM {schema}.parked_streams p
 CROSS JOIN LATERAL (
    SELECT max(stream_version) AS stream_version FROM {schema}.events e WHERE e.stream_id = p.stream_id
 ) last
 WHERE p.consumer = $1 AND p.stream_id = $2

-- name: lock_parked_stream
-- Keep everybody else from deciding about a stream that is held back, until the transaction ends.
SELECT from_version FROM {schema}.parked_streams WHERE consumer = $1 AND stream_id = $2 FOR UPDATE

-- name: park_stream
-- Hold a stream back from an event on; of one that is held back already, say where it is held now.
INSERT INTO {schema}.parked_streams
       (consumer, stream_id, from_version, from_position, event_id, event_type, error_type, error, attempts)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (consumer, stream_id) DO UPDATE
       SET from_version = excluded.from_version, from_position = excluded.from_position, event_id = excluded.event_id,
           event_type = excluded.event_type, error_type = excluded.error_type, error = excluded.error,
           attempts = excluded.attempts, failed_at = excluded.failed_at

-- name: release_stream
-- Hold a stream back no longer.
DELETE FROM {schema}.parked_streams WHERE consumer = $1 AND stream_id = $2

-- name: release_all_streams
-- Hold no stream of a consumer back any longer (its read model is built anew).
DELETE FROM {schema}.parked_streams WHERE consumer = $1

-- name: rename_parked_streams
-- Give the streams that a consumer holds back to another one (a rebuilt read model takes the old one's place).
UPDATE {schema}.parked_streams SET consumer = $2 WHERE consumer = $1

-- name: note_discard
-- Note who goes on without a parked event, and why; the note stays.
INSERT INTO {schema}.discarded_events
       (consumer, stream_id, stream_version, global_position, event_id, event_type, error_type, error, failed_at,
        discarded_by, reason)
SELECT consumer, stream_id, from_version, from_position, event_id, event_type, error_type, error, failed_at, $3, $4
  FROM {schema}.parked_streams WHERE consumer = $1 AND stream_id = $2

-- name: list_discarded_events
-- What was discarded of a consumer ($1, of all of them if null), oldest first.
SELECT consumer, stream_id, stream_version, event_id, event_type, error_type, error, failed_at, discarded_by, reason,
       discarded_at
  FROM {schema}.discarded_events
 WHERE $1::text IS NULL OR consumer = $1
 ORDER BY discarded_at, consumer, global_position

-- name: lock_checkpoint
-- Where a reader has come, and it comes no further until the transaction ends.
SELECT global_position FROM {schema}.checkpoints WHERE name = $1 FOR UPDATE

-- name: lock_kafka_stream
-- The last version of a stream that a consumer has taken in from Kafka, and it takes in no more until the transaction ends.
SELECT stream_version FROM {schema}.kafka_streams WHERE consumer = $1 AND stream_id = $2 FOR UPDATE

-- name: load_run
-- Who has noted that it works on a share of a consumer, and at which event it was, if it went carefully.
SELECT run_id, stream_id, stream_version, attempts FROM {schema}.projection_runs WHERE consumer = $1 AND share = $2

-- name: begin_run
-- Note who works on a share now; what the one before it has noted of an event stays.
INSERT INTO {schema}.projection_runs (consumer, share, run_id) VALUES ($1, $2, $3)
    ON CONFLICT (consumer, share) DO UPDATE SET run_id = excluded.run_id, noted_at = clock_timestamp()

-- name: note_attempts
-- Note in these shares which event one is about to try, and for which time; or where the events begin that one is about to
-- try together, and below zero how many. Nothing is noted in a share where somebody else works now.
UPDATE {schema}.projection_runs kept
   SET stream_id = given.stream_id, stream_version = given.stream_version, attempts = given.attempts,
       noted_at = clock_timestamp()
  FROM unnest($3::text[], $4::text[], $5::bigint[], $6::integer[]) AS given (share, stream_id, stream_version, attempts)
 WHERE kept.consumer = $1 AND kept.run_id = $2 AND kept.share = given.share
RETURNING kept.share

-- name: end_runs
-- Note that one has stopped in good order.
DELETE FROM {schema}.projection_runs WHERE consumer = $1 AND run_id = $2 AND share = ANY ($3::text[])

-- name: event_at_or_below
-- The last event up to a position: its stream and version.
SELECT stream_id, stream_version, global_position FROM {schema}.events
 WHERE global_position <= $1 ORDER BY global_position DESC LIMIT 1

-- name: applied_up_to
-- How far a consumer has come: its checkpoint, and with one stream ($2), where Kafka feeds it.
SELECT (SELECT global_position FROM {schema}.checkpoints WHERE name = $1),
       (SELECT stream_version FROM {schema}.kafka_streams WHERE consumer = $1 AND stream_id = $2)

-- name: held_back_from
-- From which version on a consumer holds streams back, those of some that it does.
SELECT stream_id, from_version FROM {schema}.parked_streams WHERE consumer = $1 AND stream_id = ANY ($2::text[])
