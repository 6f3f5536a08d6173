-- What becomes of events that a projection cannot apply.

CREATE TABLE {schema}.parked_streams (
    consumer      text COLLATE "C" NOT NULL,
    stream_id     text COLLATE "C" NOT NULL,
    from_version  bigint           NOT NULL,
    from_position bigint           NOT NULL,
    event_id      uuid             NOT NULL,
    event_type    text             NOT NULL,
    error_type    text             NOT NULL,
    error         text             NOT NULL,
    attempts      integer          NOT NULL,
    failed_at     timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT parked_streams_pkey PRIMARY KEY (consumer, stream_id)
);

COMMENT ON TABLE {schema}.parked_streams IS
    'Streams that a projection holds back: the first event that could not be applied, and why. All from it on waits.';

CREATE TABLE {schema}.discarded_events (
    consumer        text COLLATE "C" NOT NULL,
    stream_id       text COLLATE "C" NOT NULL,
    stream_version  bigint           NOT NULL,
    global_position bigint           NOT NULL,
    event_id        uuid             NOT NULL,
    event_type      text             NOT NULL,
    error_type      text             NOT NULL,
    error           text             NOT NULL,
    failed_at       timestamptz      NOT NULL,
    discarded_by    text             NOT NULL,
    reason          text             NOT NULL,
    discarded_at    timestamptz      NOT NULL DEFAULT clock_timestamp()
);

CREATE INDEX discarded_events_consumer ON {schema}.discarded_events (consumer, discarded_at);

COMMENT ON TABLE {schema}.discarded_events IS
    'Parked events that somebody decided to go on without: who, when and why. Rows stay.';

CREATE TABLE {schema}.projection_runs (
    consumer       text COLLATE "C" NOT NULL,
    share          text COLLATE "C" NOT NULL,
    run_id         uuid             NOT NULL,
    stream_id      text COLLATE "C",
    stream_version bigint,
    attempts       integer          NOT NULL DEFAULT 0,
    noted_at       timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT projection_runs_pkey PRIMARY KEY (consumer, share)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.projection_runs IS
    'Who applies events just now. A row that nobody took away says that its owner died, and at which event if it knew.';

ALTER TABLE {schema}.kafka_offsets ADD COLUMN topic_id uuid;

COMMENT ON COLUMN {schema}.kafka_offsets.topic_id IS
    'The topic''s own id, so that one that was deleted and made again is noticed; null from before it was noted.';
