-- What follows the log: checkpoints, leases, Kafka offsets, and the read models that stand on them.

CREATE TABLE {schema}.checkpoints (
    name            text COLLATE "C" NOT NULL,
    global_position bigint           NOT NULL,
    event_id        uuid,
    epoch           bigint           NOT NULL DEFAULT 0,
    updated_at      timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT checkpoints_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.checkpoints IS
    'How far a reader of the log has come: the position and id of an event that it read, and the epoch it wrote under.';

CREATE TABLE {schema}.leases (
    name       text COLLATE "C" NOT NULL,
    owner      text             NOT NULL,
    epoch      bigint           NOT NULL DEFAULT 1,
    expires_at timestamptz      NOT NULL,
    CONSTRAINT leases_pkey PRIMARY KEY (name)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.leases IS
    'Who does a piece of work that only one may do. The epoch rises with every new owner and fences the old ones.';

CREATE TABLE {schema}.kafka_offsets (
    consumer    text COLLATE "C" NOT NULL,
    topic       text COLLATE "C" NOT NULL,
    partition   integer          NOT NULL,
    next_offset bigint           NOT NULL,
    updated_at  timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT kafka_offsets_pkey PRIMARY KEY (consumer, topic, partition)
) WITH (fillfactor = 50);

COMMENT ON TABLE {schema}.kafka_offsets IS
    'The next Kafka offset of each partition, written in the transaction that changes the read model.';

CREATE TABLE {schema}.kafka_streams (
    consumer       text COLLATE "C" NOT NULL,
    stream_id      text COLLATE "C" NOT NULL,
    stream_version bigint           NOT NULL,
    CONSTRAINT kafka_streams_pkey PRIMARY KEY (consumer, stream_id)
) WITH (fillfactor = 80);

COMMENT ON TABLE {schema}.kafka_streams IS
    'The last version of each stream that a Kafka-fed read model has taken in: seen ones are passed over, gaps stop it.';

CREATE TABLE {schema}.read_models (
    name       text COLLATE "C" NOT NULL,
    generation integer          NOT NULL DEFAULT 1,
    built_at   timestamptz      NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT read_models_pkey PRIMARY KEY (name)
);

COMMENT ON TABLE {schema}.read_models IS
    'Read models that were set up. A rebuild raises the generation, so that a worker on the old tables notices.';
