-- What the server says of itself.

-- name: durability_settings
-- The settings on which the worth of an acknowledgement depends, as they apply to this session.
SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
       current_setting('eventstore.durability_check', true)

-- name: session_facts
-- What a store needs to know of a session: its isolation, the database's encoding, and a value of each type that our
-- queries use, as the session's codecs take and return it.
SELECT current_setting('default_transaction_isolation'), current_setting('server_encoding'),
       $1::uuid, $2::timestamptz, $3::interval, $4::text, $5::bigint, $6::integer, $7::float8, $8::boolean, $9::bytea
