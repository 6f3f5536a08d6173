-- What an operator asks: how large the log is, who holds its readers back, who follows it.

-- name: server_status
-- The server, the database, and whether positions are settled here (not on a replica).
SELECT current_setting('server_version'), current_database(), pg_is_in_recovery()

-- name: last_event
-- The last event that can be seen: its position, and when it was recorded.
SELECT global_position, recorded_at FROM {schema}.events ORDER BY global_position DESC LIMIT 1

-- name: table_sizes
-- For each table its rows, as the planner estimates them (counted where it knows nothing yet), and its size in bytes.
SELECT 'events', CASE WHEN relpages > 0 AND reltuples >= 0
            THEN (reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::integer))::bigint
            ELSE (SELECT count(*) FROM {schema}.events) END, pg_total_relation_size(oid)
  FROM pg_catalog.pg_class WHERE oid = '{schema}.events'::regclass
UNION ALL
SELECT 'streams', CASE WHEN relpages > 0 AND reltuples >= 0
            THEN (reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::integer))::bigint
            ELSE (SELECT count(*) FROM {schema}.streams) END, pg_total_relation_size(oid)
  FROM pg_catalog.pg_class WHERE oid = '{schema}.streams'::regclass
UNION ALL
SELECT 'snapshots', CASE WHEN relpages > 0 AND reltuples >= 0
            THEN (reltuples / relpages * (pg_relation_size(oid) / current_setting('block_size')::integer))::bigint
            ELSE (SELECT count(*) FROM {schema}.snapshots) END, pg_total_relation_size(oid)
  FROM pg_catalog.pg_class WHERE oid = '{schema}.snapshots'::regclass

-- name: low_water_holders
-- The sessions whose open transactions have drawn positions of the store in the schema $1, lowest floor first: readers
-- stay at or below the lowest. The locks are found as the function high_water does.
SELECT l.pid, (l.classid::bigint << 32 | l.objid::bigint) & x'ffffffffffff'::bigint AS floor,
       a.application_name, a.state, extract(epoch FROM clock_timestamp() - a.xact_start)::float8 AS seconds
  FROM pg_catalog.pg_locks l
  LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory'
   AND l.objsubid = 1
   AND l.mode = 'ShareLock'
   AND l.classid::bigint >> 16 = (get_byte(sha256(convert_to($1, 'UTF8')), 0) << 8
                                  | get_byte(sha256(convert_to($1, 'UTF8')), 1)) & 32767
   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = current_database())
 ORDER BY floor, l.pid

-- name: kafka_readers
-- The read models that are fed by Kafka: their topics, and how many records of each they are past.
SELECT consumer, topic, count(*)::integer AS partitions, sum(next_offset)::bigint AS records, max(updated_at)
  FROM {schema}.kafka_offsets GROUP BY consumer, topic ORDER BY consumer, topic

-- name: list_read_models
-- All read models that were set up, which generation of their tables is in use, and since when.
SELECT name, generation, built_at FROM {schema}.read_models ORDER BY name

-- name: look_at_followers
-- All who have a checkpoint, those among $1 that have none, and those who have only reported: how far they are, whether
-- they have a place in the log (Kafka feeds others), the events behind it (counted up to $2) and the age of the oldest,
-- what they report of themselves and how long ago, and who has their lease.
WITH known AS (
    SELECT name, global_position, epoch, updated_at, true AS follows FROM {schema}.checkpoints
    UNION ALL
    SELECT name, NULL, NULL, NULL,
           bool_or(is_declared) AND NOT EXISTS (SELECT FROM {schema}.kafka_offsets k WHERE k.consumer = name)
      FROM (SELECT name, true FROM unnest($1::text[]) AS declared (name)
            UNION ALL
            SELECT name, false FROM {schema}.followers) AS named (name, is_declared)
     WHERE NOT EXISTS (SELECT FROM {schema}.checkpoints c WHERE c.name = named.name)
     GROUP BY name
)
SELECT known.name, known.global_position, known.follows, known.epoch, known.updated_at, behind.events, oldest.seconds,
       report.state, report.rate, report.reason, report.reported_by,
       extract(epoch FROM clock_timestamp() - report.reported_at)::float8, lease.owner
  FROM known
  LEFT JOIN {schema}.followers report ON report.name = known.name
  LEFT JOIN {schema}.leases lease
         ON lease.name IN (known.name, 'projection:' || known.name) AND lease.expires_at > clock_timestamp()
 CROSS JOIN LATERAL (
    SELECT count(*) AS events
      FROM (SELECT FROM {schema}.events
             WHERE known.follows AND global_position > coalesce(known.global_position, 0) LIMIT $2) AS first_ones
 ) AS behind
  LEFT JOIN LATERAL (
    SELECT extract(epoch FROM clock_timestamp() - recorded_at)::float8 AS seconds
      FROM {schema}.events WHERE known.follows AND global_position > coalesce(known.global_position, 0)
     ORDER BY global_position LIMIT 1
 ) AS oldest ON true
 ORDER BY known.name
