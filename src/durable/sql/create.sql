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
    token bigint NOT NULL DEFAULT 0,
    holder text,
    lease interval,
    leased_until timestamptz,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Positions are only inserted, never updated, so they leave no dead rows. The row with the highest seq is the current one. The next one has its slot,
-- so two that follow the same row are the same key, whatever a sequence does after a crash.
CREATE TABLE {acks} (
    cursor_id integer NOT NULL,
    seq bigint NOT NULL,
    token bigint NOT NULL,
    slot smallint NOT NULL,
    -- A receipt is valid for the row that it was read from, and not for one that has its seq after the end of the log was lost in a failover.
    nonce uuid NOT NULL DEFAULT gen_random_uuid(),
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

-- The current position of each cursor. Its text is the beginning of a receipt.
--
-- A crash can lose what was committed without waiting for the disk, and a failover what the standby had not received. Their xids and ids are assigned
-- again, so a batch of before must not be acknowledged: its snapshot would seem to include other records. The same is so for a copy of the database
-- in the same cluster. The nonce of a receipt is therefore that of the position together with the start of the server, the place where it ended its recovery,
-- the timeline, the database and the table. Nothing distinguishes a restart from a crash with a restart behind it, so each start refuses the receipts of before.
CREATE VIEW {positions} AS
    SELECT cursors.name, cursors.cursor_id, newest.seq, newest.token, newest.slot, newest.nonce, newest.lower, newest.high, newest.next,
        newest.upper, newest.upper_high, newest.upper_next, newest.last, newest.gap_first, newest.gap_last, newest.gap_records, newest.at,
        CASE WHEN newest.seq IS NOT NULL THEN concat_ws(' ', newest.seq, newest.token, newest.receipt_nonce, newest.lower, newest.high, newest.next, coalesce(newest.upper::text, '-'),
            coalesce(newest.upper_high::text, '-'), coalesce(newest.upper_next::text, '-'), coalesce(newest.last::text, '-'),
            coalesce(newest.gap_first::text, '-'), coalesce(newest.gap_last::text, '-'), coalesce(newest.gap_records::text, '-')) END AS text,
        newest.receipt_nonce
    FROM {cursors} AS cursors LEFT JOIN LATERAL (
        SELECT acks.*, md5(concat_ws(' ', acks.nonce, (SELECT oid FROM pg_database WHERE datname = current_database()), '{log}'::regclass::oid,
            pg_last_wal_replay_lsn(),
            (date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint,
            CASE WHEN NOT pg_is_in_recovery() THEN left(pg_walfile_name(pg_current_wal_lsn()), 8) END))::uuid AS receipt_nonce
        FROM {acks} AS acks WHERE acks.cursor_id = cursors.cursor_id ORDER BY seq DESC LIMIT 1
    ) AS newest ON true;

-- One row.
CREATE TABLE {settings} (
    version integer NOT NULL,
    -- xids mean something only in the cluster that assigned them.
    system_identifier bigint NOT NULL,
    slot_age interval NOT NULL,
    slot_bytes bigint NOT NULL,
    max_age interval,
    max_bytes bigint
);
CREATE UNIQUE INDEX ON {settings} ((true));
INSERT INTO {settings}
SELECT 1, system_identifier, '10 minutes', 256 * 1024 * 1024, NULL, NULL FROM pg_control_system();
