-- The slot of new records is last_value % 3. A sequence is not transactional: every writer sees a change at once.
CREATE SEQUENCE {log_slot} MINVALUE 0 START 0;
SELECT nextval('{log_slot}'::regclass);

-- Defaults are evaluated in the order of the columns: a transaction has its xid before its records have their ids.
CREATE TABLE {log} (
    xid xid8 NOT NULL DEFAULT pg_current_xact_id(),
    id bigint NOT NULL GENERATED ALWAYS AS IDENTITY (CACHE 1),
    slot smallint NOT NULL DEFAULT (pg_sequence_last_value('{log_slot}'::regclass) % 3)::smallint,
    written_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    key text NOT NULL DEFAULT '',
    headers jsonb,
    payload {payload_type} NOT NULL
) PARTITION BY LIST (slot);
CREATE TABLE {log_0} PARTITION OF {log} FOR VALUES IN (0);
CREATE TABLE {log_1} PARTITION OF {log} FOR VALUES IN (1);
CREATE TABLE {log_2} PARTITION OF {log} FOR VALUES IN (2);
CREATE INDEX ON {log} (id);
CREATE INDEX ON {log} (xid, id);

CREATE TABLE {cursors} (
    cursor_id integer PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    name text NOT NULL UNIQUE,
    -- xids mean something only in the cluster that assigned them.
    system_identifier bigint NOT NULL,
    token bigint NOT NULL DEFAULT 0,
    holder text,
    lease interval,
    leased_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Positions are only inserted, never updated, so they leave no dead rows. The row with the highest seq is the current one.
CREATE SEQUENCE {ack_slot} MINVALUE 0 START 0;
SELECT nextval('{ack_slot}'::regclass);
CREATE TABLE {acks} (
    cursor_id integer NOT NULL,
    seq bigint NOT NULL,
    token bigint NOT NULL,
    slot smallint NOT NULL DEFAULT (pg_sequence_last_value('{ack_slot}'::regclass) % 2)::smallint,
    lower pg_snapshot NOT NULL,
    high bigint NOT NULL,
    next xid8 NOT NULL,
    upper pg_snapshot,
    upper_high bigint,
    upper_next xid8,
    last bigint,
    gap_first bigint,
    gap_last bigint,
    gap_records bigint,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (cursor_id, seq, slot)
) PARTITION BY LIST (slot);
CREATE TABLE {acks_0} PARTITION OF {acks} FOR VALUES IN (0);
CREATE TABLE {acks_1} PARTITION OF {acks} FOR VALUES IN (1);

-- The current position of each cursor.
CREATE VIEW {positions} AS
    SELECT cursors.name, newest.*,
        concat_ws(' ', seq, newest.token, lower, high, next, coalesce(upper::text, '-'), coalesce(upper_high::text, '-'),
            coalesce(upper_next::text, '-'), coalesce(last::text, '-'), coalesce(gap_first::text, '-'),
            coalesce(gap_last::text, '-'), coalesce(gap_records::text, '-')) AS text
    FROM {cursors} AS cursors CROSS JOIN LATERAL (
        SELECT * FROM {acks} AS acks WHERE acks.cursor_id = cursors.cursor_id ORDER BY seq DESC LIMIT 1
    ) AS newest;

-- One row.
CREATE TABLE {settings} (
    version integer NOT NULL,
    slot_age interval NOT NULL,
    slot_bytes bigint NOT NULL,
    max_age interval,
    max_bytes bigint
);
CREATE UNIQUE INDEX ON {settings} ((true));
INSERT INTO {settings} VALUES (1, '10 minutes', 256 * 1024 * 1024, NULL, NULL);
