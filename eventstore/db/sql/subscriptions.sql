-- Checkpoints, leases, read models and Kafka offsets.

-- name: load_checkpoint
-- How far a reader has come.
SELECT global_position, event_id, epoch FROM {schema}.checkpoints WHERE name = $1

-- name: save_checkpoint
-- Move a checkpoint from where its owner left it ($5, 0 for none) to another event, by compare-and-set on position and
-- epoch; that event must be on the log here and now, where the effect is: it was read from another server, perhaps.
INSERT INTO {schema}.checkpoints AS kept (name, global_position, event_id, epoch)
SELECT $1, $2, $3, $4
 WHERE ($5::bigint = 0 OR EXISTS (SELECT FROM {schema}.checkpoints WHERE name = $1))
   AND ($3::uuid IS NULL OR EXISTS (SELECT FROM {schema}.events WHERE global_position = $2 AND event_id = $3))
    ON CONFLICT (name) DO UPDATE
       SET global_position = excluded.global_position, event_id = excluded.event_id, epoch = excluded.epoch,
           updated_at = clock_timestamp()
     WHERE kept.global_position = $5 AND kept.epoch <= excluded.epoch
RETURNING global_position

-- name: rename_checkpoint
-- Give a checkpoint another name (a rebuilt read model takes the old one's place).
UPDATE {schema}.checkpoints SET name = $2, updated_at = clock_timestamp() WHERE name = $1

-- name: delete_checkpoint
-- Forget how far a reader has come.
DELETE FROM {schema}.checkpoints WHERE name = $1

-- name: list_checkpoints
-- All readers and how far they have come.
SELECT name, global_position, event_id, epoch, updated_at FROM {schema}.checkpoints ORDER BY name

-- name: acquire_lease
-- Take a lease that is free or has run out, or keep one's own. The epoch rises when the owner changes.
INSERT INTO {schema}.leases AS held (name, owner, expires_at)
VALUES ($1, $2, clock_timestamp() + $3::interval)
    ON CONFLICT (name) DO UPDATE
       SET owner = excluded.owner,
           epoch = held.epoch + CASE WHEN held.owner = excluded.owner THEN 0 ELSE 1 END,
           expires_at = excluded.expires_at
     WHERE held.owner = excluded.owner OR held.expires_at < clock_timestamp()
RETURNING epoch

-- name: seize_lease
-- Take a lease from whoever holds it: the old owner's renewal fails, and its epoch is fenced.
INSERT INTO {schema}.leases AS held (name, owner, expires_at)
VALUES ($1, $2, clock_timestamp() + $3::interval)
    ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, epoch = held.epoch + 1, expires_at = excluded.expires_at
RETURNING epoch

-- name: renew_lease
-- Keep a lease, if it is still ours.
UPDATE {schema}.leases SET expires_at = clock_timestamp() + $4::interval
 WHERE name = $1 AND owner = $2 AND epoch = $3
RETURNING epoch

-- name: release_lease
-- Let a lease run out now, so that the next one need not wait.
UPDATE {schema}.leases SET expires_at = '-infinity' WHERE name = $1 AND owner = $2 AND epoch = $3

-- name: hold_lease
-- Inside a transaction: prove that the lease is ours, and keep it so until the transaction ends.
SELECT epoch FROM {schema}.leases WHERE name = $1 AND owner = $2 AND epoch = $3 FOR SHARE

-- name: list_leases
-- All leases: who holds them, since which epoch, and for how many seconds yet.
SELECT name, owner, epoch, extract(epoch FROM expires_at - clock_timestamp())::float8 AS seconds_left
  FROM {schema}.leases WHERE expires_at > '-infinity' ORDER BY name

-- name: load_kafka_offsets
-- The next offset of each partition that a consumer has come to.
SELECT topic, partition, next_offset FROM {schema}.kafka_offsets WHERE consumer = $1

-- name: list_kafka_offsets
-- The next offsets of all consumers.
SELECT consumer, topic, partition, next_offset FROM {schema}.kafka_offsets ORDER BY consumer, topic, partition

-- name: load_kafka_topic_ids
-- Which topics, by Kafka's own ids, a consumer's places are in.
SELECT DISTINCT topic, topic_id FROM {schema}.kafka_offsets WHERE consumer = $1 AND topic_id IS NOT NULL

-- name: save_kafka_places
-- Move a consumer's places in these partitions, and note the last versions taken in of streams ($7, $8), inside the
-- transaction that changes its read model; returns how many places were where they were thought to be ($5, -1 for one
-- that is not written down yet). The streams only come after all places: who was overtaken waits for none of them.
WITH given AS (
    SELECT * FROM unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::uuid[])
           AS given (topic, partition, next_offset, since, topic_id)
), moved AS (
    UPDATE {schema}.kafka_offsets kept
       SET next_offset = given.next_offset, topic_id = given.topic_id, updated_at = clock_timestamp()
      FROM given
     WHERE kept.consumer = $1 AND kept.topic = given.topic AND kept.partition = given.partition
       AND kept.next_offset = given.since
 RETURNING 1
), begun AS (
    INSERT INTO {schema}.kafka_offsets (consumer, topic, partition, next_offset, topic_id)
    SELECT $1, topic, partition, next_offset, topic_id FROM given WHERE since = -1
        ON CONFLICT DO NOTHING
 RETURNING 1
), noted AS (
    INSERT INTO {schema}.kafka_streams (consumer, stream_id, stream_version)
    SELECT $1, * FROM unnest($7::text[], $8::bigint[])
     WHERE (SELECT count(*) FROM moved) + (SELECT count(*) FROM begun) = cardinality($2)
        ON CONFLICT (consumer, stream_id) DO UPDATE SET stream_version = excluded.stream_version
)
SELECT (SELECT count(*) FROM moved) + (SELECT count(*) FROM begun)

-- name: delete_kafka_offsets
-- Forget a consumer's places.
DELETE FROM {schema}.kafka_offsets WHERE consumer = $1

-- name: load_kafka_streams
-- The last versions taken in of these streams.
SELECT stream_id, stream_version FROM {schema}.kafka_streams WHERE consumer = $1 AND stream_id = ANY ($2::text[])

-- name: delete_kafka_streams
-- Forget a consumer's streams.
DELETE FROM {schema}.kafka_streams WHERE consumer = $1

-- name: note_kafka_streams_up_to
-- A consumer that was fed from the log up to $2 has taken in every stream up to there.
INSERT INTO {schema}.kafka_streams (consumer, stream_id, stream_version)
SELECT $1, stream_id, max(stream_version) FROM {schema}.events WHERE global_position <= $2 GROUP BY stream_id

-- name: is_fed_by_kafka
-- Whether a consumer has places in Kafka.
SELECT EXISTS (SELECT FROM {schema}.kafka_offsets WHERE consumer = $1)
    OR EXISTS (SELECT FROM {schema}.kafka_streams WHERE consumer = $1)

-- name: lock_read_models
-- One at a time may set up or replace read models; held to the end of the transaction.
SELECT pg_advisory_xact_lock(-1 - hashtext($1)::bigint)

-- name: read_model
-- The generation of a read model; none when it was never set up.
SELECT generation FROM {schema}.read_models WHERE name = $1

-- name: hold_read_model
-- The same, kept as it is until the transaction ends: a rebuild waits for it. Until then bare table names are looked for
-- in $2, if it is given.
SELECT generation, set_config('search_path', coalesce($2, current_setting('search_path')), true)
  FROM {schema}.read_models WHERE name = $1 FOR SHARE

-- name: seize_read_model
-- The same, and nobody else may even hold it until the transaction ends: waits for the transactions that do.
SELECT generation FROM {schema}.read_models WHERE name = $1 FOR UPDATE

-- name: replace_read_model
-- Note that a read model was set up, or built anew; waits for the transactions that hold it.
INSERT INTO {schema}.read_models AS old (name) VALUES ($1)
    ON CONFLICT (name) DO UPDATE SET generation = old.generation + 1, built_at = clock_timestamp()
RETURNING generation

-- name: delete_read_model
-- Forget that a read model was set up.
DELETE FROM {schema}.read_models WHERE name = $1

-- name: hold_appenders
-- Wait until every open append has ended, and let no other begin until the transaction ends; readers go on.
LOCK TABLE {schema}.events IN SHARE MODE

-- name: claim_checkpoint
-- Write a checkpoint under a new epoch, which fences the older ones; it begins at $2 when there is none yet.
INSERT INTO {schema}.checkpoints AS kept (name, global_position, event_id, epoch)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE SET epoch = excluded.epoch WHERE kept.epoch <= excluded.epoch
RETURNING global_position, event_id, epoch

-- name: move_checkpoint
-- Move a checkpoint on, by compare-and-set on the epoch that claimed it; moved again to where it is, it stays. As above,
-- to an event that is on the log here and now.
UPDATE {schema}.checkpoints SET global_position = $2, event_id = $3, updated_at = clock_timestamp()
 WHERE name = $1 AND epoch = $4 AND global_position <= $2
   AND ($3::uuid IS NULL OR EXISTS (SELECT FROM {schema}.events WHERE global_position = $2 AND event_id = $3))
RETURNING global_position

-- name: reset_checkpoint
-- Set a checkpoint anywhere, under an epoch that fences whoever reads there.
INSERT INTO {schema}.checkpoints (name, global_position, event_id, epoch)
VALUES ($1, $2, $3, $4)
    ON CONFLICT (name) DO UPDATE
       SET global_position = excluded.global_position, event_id = excluded.event_id, epoch = excluded.epoch,
           updated_at = clock_timestamp()
RETURNING global_position

-- name: lease_owner
-- Who holds a lease now.
SELECT owner FROM {schema}.leases WHERE name = $1 AND expires_at > clock_timestamp()

-- name: report_follower
-- What a follower reports of itself.
INSERT INTO {schema}.followers (name, state, events, rate, reason, reported_by)
VALUES ($1, $2, $3, $4, $5, $6)
    ON CONFLICT (name) DO UPDATE
       SET state = excluded.state, events = excluded.events, rate = excluded.rate, reason = excluded.reason,
           reported_by = excluded.reported_by, reported_at = clock_timestamp()
