-- What follows the log: what it reports of itself, and how it knows that the server is still the one it asked.

CREATE TABLE {schema}.followers (
    name        text COLLATE "C" NOT NULL,
    state       text             NOT NULL,
    events      bigint           NOT NULL,
    rate        double precision NOT NULL,
    reason      text,
    reported_by text             NOT NULL,
    reported_at timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT followers_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.followers IS
    'What a follower of the log last reported of itself, for people and probes; nothing is decided by it.';

-- One run of one server: another server, a restart and a crash each give another text, and so do a replica and the
-- primary that it becomes. A checkpoint that PostgreSQL makes gives another one too, which costs its readers a question.
CREATE FUNCTION {schema}.server_run() RETURNS text
    LANGUAGE sql STABLE
    RETURN (SELECT concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()), checkpoint_lsn, pg_is_in_recovery())
              FROM pg_catalog.pg_control_checkpoint());

COMMENT ON FUNCTION {schema}.server_run IS
    'Which run of which server this is: what it has said of how far the log is settled holds no longer than that.';
