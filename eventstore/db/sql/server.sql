-- What the server says of itself.

-- name: durability_settings
-- The settings on which the worth of an acknowledgement depends, as they apply to this session.
SELECT current_setting('fsync'), current_setting('synchronous_commit'), current_setting('full_page_writes'),
       current_setting('eventstore.durability_check', true)
