-- The log's queries. Those that return events have the columns of codec.StoredEvent, in its order.

-- name: append
-- Carry out appends, in one round trip and one transaction; see the function.
SELECT outcomes, versions, positions
  FROM {schema}.append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)

-- name: append_one
-- Carry out one append of one event; see the function.
SELECT outcome, version, drawn FROM {schema}.append_one($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)

-- name: events_by_ids
-- The events of a stream that have one of these ids, by version.
SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version, data::text, metadata::text,
       correlation_id, causation_id, occurred_at, recorded_at
  FROM {schema}.events
 WHERE stream_id = $1 AND event_id = ANY ($2::uuid[])
 ORDER BY stream_version

-- name: read_stream
-- A page of a stream, oldest first.
SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version, data::text, metadata::text,
       correlation_id, causation_id, occurred_at, recorded_at
  FROM {schema}.events
 WHERE stream_id = $1
   AND stream_version BETWEEN $2 AND $3
   AND ($4::text[] IS NULL OR event_type = ANY ($4))
   AND ($5::timestamptz IS NULL OR occurred_at <= $5)
   AND ($6::timestamptz IS NULL OR recorded_at <= $6)
 ORDER BY stream_version
 LIMIT $7

-- name: read_stream_backwards
-- A page of a stream, newest first.
SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version, data::text, metadata::text,
       correlation_id, causation_id, occurred_at, recorded_at
  FROM {schema}.events
 WHERE stream_id = $1
   AND stream_version BETWEEN $2 AND $3
   AND ($4::text[] IS NULL OR event_type = ANY ($4))
   AND ($5::timestamptz IS NULL OR occurred_at <= $5)
   AND ($6::timestamptz IS NULL OR recorded_at <= $6)
 ORDER BY stream_version DESC
 LIMIT $7

-- name: high_water
-- The position up to which nothing can appear late; read the events in a later statement, which sees more than this one
-- in READ COMMITTED only. The second column says whether it does.
SELECT {schema}.high_water(), current_setting('transaction_isolation') IN ('read committed', 'read uncommitted')

-- name: last_drawn
-- The last position handed out: the cheap question whether anything has happened.
SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {schema}.events_global_position_seq

-- name: read_all
-- The wanted events among the next $3 of the log after $1 and up to $2; the last one looked at always comes, so that
-- readers advance over what they do not want: it has no type then.
WITH page AS MATERIALIZED (
    SELECT ($4::text[] IS NULL OR {schema}.category_of(stream_id) = ANY ($4))
           AND ($5::text[] IS NULL OR event_type = ANY ($5))
           AND ($6::timestamptz IS NULL OR recorded_at >= $6)
           AND ($7::integer IS NULL OR {schema}.slice_of(stream_id) BETWEEN $7 AND $8::integer) AS wanted,
           global_position, stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
           correlation_id, causation_id, occurred_at, recorded_at
      FROM {schema}.events
     WHERE global_position > $1 AND global_position <= $2
     ORDER BY global_position
     LIMIT $3
)
SELECT global_position, stream_id, stream_version, event_id, CASE WHEN wanted THEN event_type END, schema_version,
       data::text, metadata::text, correlation_id, causation_id, occurred_at, recorded_at
  FROM page
 WHERE wanted OR global_position = (SELECT max(global_position) FROM page)
 ORDER BY global_position

-- name: read_everything
-- The next $3 events of the log after $1 and up to $2, all of them.
SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version, data::text, metadata::text,
       correlation_id, causation_id, occurred_at, recorded_at
  FROM {schema}.events
 WHERE global_position > $1 AND global_position <= $2
 ORDER BY global_position
 LIMIT $3

-- name: settled
-- The same, with the run of the server that says so, the last position handed out, and whether the server is a replica,
-- whose word counts for nothing.
SELECT {schema}.high_water(), {schema}.server_run(), CASE WHEN is_called THEN last_value ELSE 0 END, pg_is_in_recovery()
  FROM {schema}.events_global_position_seq

-- name: server_run
-- The run of the server that answers.
SELECT {schema}.server_run()

-- name: read_on
-- The same as read_all for a reader that goes on at the event at $1, which comes first, without its data, so that the
-- reader sees that it is there still. Nothing comes from another run of a server than $9, which said what $2 is.
WITH page AS MATERIALIZED (
    SELECT ($4::text[] IS NULL OR {schema}.category_of(stream_id) = ANY ($4))
           AND ($5::text[] IS NULL OR event_type = ANY ($5))
           AND ($6::timestamptz IS NULL OR recorded_at >= $6)
           AND ($7::integer IS NULL OR {schema}.slice_of(stream_id) BETWEEN $7 AND $8::integer) AS wanted,
           global_position, stream_id, stream_version, event_id, event_type, schema_version, data, metadata,
           correlation_id, causation_id, occurred_at, recorded_at
      FROM {schema}.events
     WHERE global_position >= $1 AND global_position <= $2 AND {schema}.server_run() = $9
     ORDER BY global_position
     LIMIT $3
)
SELECT global_position, stream_id, stream_version, event_id, CASE WHEN wanted THEN event_type END, schema_version,
       CASE WHEN global_position <> $1 THEN data::text END,
       metadata::text, correlation_id, causation_id, occurred_at, recorded_at
  FROM page
 WHERE wanted OR global_position = $1 OR global_position = (SELECT max(global_position) FROM page)
 ORDER BY global_position

-- name: read_everything_on
-- The same for a reader that wants everything, and $4 the run of the server.
SELECT global_position, stream_id, stream_version, event_id, event_type, schema_version,
       CASE WHEN global_position <> $1 THEN data::text END, metadata::text,
       correlation_id, causation_id, occurred_at, recorded_at
  FROM {schema}.events
 WHERE global_position >= $1 AND global_position <= $2 AND {schema}.server_run() = $4
 ORDER BY global_position
 LIMIT $3

-- name: last_event_up_to
-- The last event at or before a position.
SELECT global_position, event_id FROM {schema}.events WHERE global_position <= $1 ORDER BY global_position DESC LIMIT 1

-- name: first_recorded_from
-- The position of the first event of the log that was recorded at or after a time; the log is read up to there.
SELECT global_position FROM {schema}.events WHERE recorded_at >= $1 AND global_position <= $2
 ORDER BY global_position LIMIT 1

-- name: event_at
-- The id of the event at a position.
SELECT event_id FROM {schema}.events WHERE global_position = $1

-- name: stream_info
-- One stream at a glance.
SELECT s.stream_id, {schema}.category_of(s.stream_id) AS category, last.stream_version,
       first.recorded_at AS created_at, last.recorded_at
  FROM {schema}.streams s
  JOIN {schema}.events first ON first.stream_id = s.stream_id AND first.stream_version = 1
 CROSS JOIN LATERAL (
    SELECT stream_version, recorded_at FROM {schema}.events e
     WHERE e.stream_id = s.stream_id ORDER BY stream_version DESC LIMIT 1
 ) last
 WHERE s.stream_id = $1

-- name: list_streams
-- Streams in the order of their ids, after one, perhaps of one category.
SELECT s.stream_id, {schema}.category_of(s.stream_id) AS category, last.stream_version,
       first.recorded_at AS created_at, last.recorded_at
  FROM {schema}.streams s
  JOIN {schema}.events first ON first.stream_id = s.stream_id AND first.stream_version = 1
 CROSS JOIN LATERAL (
    SELECT stream_version, recorded_at FROM {schema}.events e
     WHERE e.stream_id = s.stream_id ORDER BY stream_version DESC LIMIT 1
 ) last
 WHERE s.stream_id > $1
   AND ($2::text IS NULL OR {schema}.category_of(s.stream_id) = $2)
 ORDER BY s.stream_id
 LIMIT $3

-- name: await_stream
-- Wait for whoever holds this stream's row: when the answer is here, the transaction that wrote it has ended.
SELECT 1 FROM {schema}.streams WHERE stream_id = $1 FOR NO KEY UPDATE

-- name: await_new_stream
-- The same for a stream that may not exist yet: inserting its row waits for another transaction that does. Roll back.
INSERT INTO {schema}.streams (stream_id) VALUES ($1) ON CONFLICT DO NOTHING
