-- What publishers hold back, for people to see.

CREATE TABLE {schema}.publisher_parked (
    name           text COLLATE "C" NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    first_position bigint           NOT NULL,
    stream_version bigint           NOT NULL,
    reason         text             NOT NULL,
    parked_at      timestamptz      NOT NULL,
    CONSTRAINT publisher_parked_pkey PRIMARY KEY (name, stream_id)
);

COMMENT ON TABLE {schema}.publisher_parked IS
    'Streams that a publisher (or a group of it) holds back, and the first event held: a copy of what its cursor in '
    'Kafka says, which alone counts.';
