-- Writes a record, in the transaction of the caller.
CREATE OR REPLACE FUNCTION {add}(key text, payload {payload_type}, headers jsonb DEFAULT NULL) RETURNS bigint
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
    INSERT INTO {log} (key, payload, headers) VALUES ($1, $2, $3) RETURNING id
$f$;

-- Returns whether the xids of the log are those of this cluster.
CREATE OR REPLACE FUNCTION {is_here}() RETURNS boolean
LANGUAGE sql SET search_path = pg_catalog, pg_temp AS $f$
    SELECT settings.system_identifier = control.system_identifier FROM {settings} AS settings, pg_control_system() AS control
$f$;

-- Acknowledges a batch, in the transaction of the caller. It raises if that is no longer possible, so that the transaction fails.
CREATE OR REPLACE FUNCTION {ack}(receipt text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    fields text[] := string_to_array(receipt, ' ');
    newest record;
BEGIN
    IF cardinality(fields) IS DISTINCT FROM 11 THEN
        RAISE EXCEPTION 'this is not a receipt of pgbell' USING ERRCODE = 'invalid_parameter_value';
    ELSIF {is_here}() IS NOT TRUE THEN
        RAISE EXCEPTION 'the log was copied from another cluster' USING ERRCODE = 'PGB04';
    END IF;
    SELECT * INTO newest FROM {positions} WHERE cursor_id = fields[1]::integer;
    IF newest.cursor_id IS NULL THEN
        RAISE EXCEPTION 'the cursor does not exist any more' USING ERRCODE = 'PGB03';
    ELSIF newest.token > fields[3]::bigint THEN
        RAISE EXCEPTION 'another reader has taken over the cursor' USING ERRCODE = 'PGB01',
            HINT = 'Roll back: the other reader receives the batch.';
    ELSIF coalesce(newest.seq, 0) < fields[2]::bigint AND current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'the snapshot of the transaction is older than the batch' USING ERRCODE = 'serialization_failure',
            HINT = 'Begin the transaction after the batch was received.';
    END IF;
    IF newest.receipt_nonce = fields[4]::uuid THEN
        INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last)
        VALUES (
            newest.cursor_id, newest.seq + 1, newest.token, newest.slot, fields[5]::pg_snapshot, fields[6]::bigint, fields[7]::xid8,
            nullif(fields[8], '-')::pg_snapshot, nullif(fields[9], '-')::bigint, nullif(fields[10], '-')::xid8,
            nullif(fields[11], '-')::bigint
        ) ON CONFLICT DO NOTHING;
        IF FOUND THEN
            RETURN;
        END IF;
    END IF;
    RAISE EXCEPTION 'the batch was acknowledged already, or the position of the cursor has changed' USING ERRCODE = 'PGB02',
        HINT = 'Roll back, and receive the next batch.';
END
$f$;

-- Creates the cursor if there is none, and gives it to a reader if it has none or its lease has passed. Returns no row if another
-- reader has it.
CREATE OR REPLACE FUNCTION {take}(cursor_name text, start text, reader text, lease_time interval, steal boolean)
RETURNS TABLE (taken_cursor integer, taken_token bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '2s' AS $f$
DECLARE
    snapshot pg_snapshot;
    top bigint;
    above xid8;
    first bigint;
    taken record;
    newest record;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        RAISE EXCEPTION 'a cursor is opened inside of a transaction that has written' USING ERRCODE = 'active_sql_transaction',
            HINT = 'Open it outside of a transaction.';
    ELSIF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a cursor is opened with the isolation %', current_setting('transaction_isolation')
            USING ERRCODE = 'active_sql_transaction', HINT = 'Use READ COMMITTED.';
    END IF;
    IF {is_here}() IS NOT TRUE THEN
        RAISE EXCEPTION 'the log was copied from another cluster' USING ERRCODE = 'PGB04';
    END IF;
    IF NOT EXISTS (SELECT FROM {cursors} WHERE name = cursor_name) THEN
        SELECT pg_current_snapshot(), coalesce(pg_sequence_last_value('{log_id_seq}'::regclass), 0) INTO snapshot, top;
        -- The xid of this transaction is assigned after the snapshot.
        above := pg_current_xact_id();
        INSERT INTO {cursors} (name) VALUES (cursor_name) ON CONFLICT (name) DO NOTHING RETURNING cursor_id INTO taken;
        IF FOUND THEN
            IF start NOT IN ('beginning', 'now') THEN
                SELECT min(id) INTO first FROM {log} WHERE written_at >= to_timestamp(start::double precision) AND id <= top;
            END IF;
            IF start = 'beginning' THEN
                INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next) VALUES (taken.cursor_id, 1, 0, 0, '1:1:', 0, '1');
            ELSIF first IS NULL THEN
                INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next)
                VALUES (taken.cursor_id, 1, 0, 0, snapshot, top, above);
            ELSE
                INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last)
                VALUES (taken.cursor_id, 1, 0, 0, '1:1:', 0, '1', snapshot, top, above, first - 1);
            END IF;
        END IF;
    END IF;
    UPDATE {cursors} SET token = token + 1, holder = reader, lease = lease_time, leased_until = clock_timestamp() + lease_time
    WHERE name = cursor_name
        AND (steal OR leased_until IS NULL OR leased_until <= clock_timestamp()
            -- The clock was set back.
            OR leased_until > clock_timestamp() + 2 * lease)
    RETURNING cursor_id, token INTO taken;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    LOOP
        SELECT * INTO newest FROM {acks} WHERE cursor_id = taken.cursor_id ORDER BY seq DESC LIMIT 1;
        IF newest.seq IS NULL THEN
            RAISE EXCEPTION 'the cursor has no position, as in a dump that was made during a rotation' USING ERRCODE = 'PGB03',
                HINT = 'Delete the cursor, and open it again.';
        END IF;
        -- It waits for an acknowledgement in a transaction that is still open.
        INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last,
            gap_first, gap_last, gap_records)
        SELECT newest.cursor_id, newest.seq + 1, taken.token, newest.slot, newest.lower, newest.high, newest.next, newest.upper,
            newest.upper_high, newest.upper_next, newest.last, newest.gap_first, newest.gap_last, newest.gap_records
        ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
    END LOOP;
    RETURN QUERY SELECT taken.cursor_id, taken.token;
END
$f$;

-- Returns whether a partition has a record that a cursor has not acknowledged, or has one that is not known to be: one that is not visible in
-- the snapshot up to which the cursor reads, or whose id is above the last one of its window.
CREATE OR REPLACE FUNCTION {is_behind}(part regclass, snapshot pg_snapshot, last bigint) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
DECLARE
    has_one boolean;
BEGIN
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM %1$s WHERE xid >= $1) OR EXISTS (SELECT FROM %1$s WHERE xid = ANY ($2))
            OR EXISTS (SELECT FROM %1$s WHERE id > $3)', part
    ) USING pg_snapshot_xmax(snapshot), ARRAY(SELECT pg_snapshot_xip(snapshot)), last INTO has_one;
    RETURN has_one;
END
$f$;

-- Returns the records of a partition that a cursor has not acknowledged: the lowest id, the highest one, and their number. With `since` those of
-- transactions that were not visible in that snapshot: these are found by the index. It is stable, so it reads with the snapshot of the caller.
CREATE OR REPLACE FUNCTION {unread}(
    part regclass, lower pg_snapshot, last_id bigint, upper pg_snapshot, since pg_snapshot
) RETURNS TABLE (first bigint, last bigint, records bigint)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT min(id), max(id), count(*) FROM %s
        WHERE %s AND NOT pg_visible_in_snapshot(xid, $1) AND NOT coalesce(id <= $2 AND pg_visible_in_snapshot(xid, $3), false)',
        part, CASE WHEN since IS NULL THEN 'true' ELSE '(xid >= pg_snapshot_xmax($4) OR xid = ANY (ARRAY(SELECT pg_snapshot_xip($4))))' END
    ) USING lower, last_id, upper, since;
END
$f$;

-- Truncates what every cursor has acknowledged, and begins a new slot when the current one is old or large. Returns what it did, or
-- why not.
CREATE OR REPLACE FUNCTION {rotate}() RETURNS TABLE (truncated integer, lost bigint, advanced boolean, waits_for text, is_empty boolean)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET lock_timeout = '20ms' AS $f$
DECLARE
    slots regclass[] := ARRAY['{log_0}', '{log_1}', '{log_2}']::regclass[];
    ack_slots regclass[] := ARRAY['{acks_0}', '{acks_1}']::regclass[];
    ack_slot integer;
    has_many_acks boolean;
    lost_here bigint;
    settings record;
    slot_number bigint;
    part regclass;
    behind record;
    is_behind boolean;
    is_forced boolean;
    has_rows boolean;
    counted_at pg_snapshot;
    counted jsonb;
    counted_seq bigint;
    counted_first bigint;
    counted_last bigint;
    counted_records bigint;
    since record;
    lost_records bigint;
    total bigint;
    newest_at timestamptz;
BEGIN
    truncated := 0;
    lost := 0;
    advanced := false;
    is_empty := false;
    -- A snapshot that is older than a lock does not show what was committed before the lock.
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a log is rotated with the isolation %', current_setting('transaction_isolation')
            USING ERRCODE = 'active_sql_transaction', HINT = 'Use READ COMMITTED.';
    ELSIF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        -- A snapshot does not list its own xid.
        RAISE EXCEPTION 'a log is rotated inside of a transaction that has written' USING ERRCODE = 'active_sql_transaction',
            HINT = 'Rotate it outside of a transaction.';
    END IF;
    IF NOT pg_try_advisory_xact_lock(hashtextextended('pgbell rotates {log}', 0)) THEN
        waits_for := 'another session that rotates';
        RETURN NEXT;
        RETURN;
    END IF;
    IF {is_here}() IS NOT TRUE THEN
        -- The snapshots of another cluster say nothing about the records of this one.
        waits_for := 'a rebase, because the log was copied from another cluster';
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT * INTO settings FROM {settings};
    slot_number := pg_sequence_last_value('{log_slot}'::regclass);
    IF slot_number IS NULL THEN
        -- Before version 18 the function itself raises.
        RAISE insufficient_privilege USING MESSAGE = 'permission denied for the sequences of the log';
    END IF;

    -- Readers lock the positions before the records. With a lock of a partition, the lock of the positions could be a deadlock, so one call does one of
    -- the two.
    ack_slot := (pg_relation_size(ack_slots[2]) > pg_relation_size(ack_slots[1]))::integer;
    has_many_acks := pg_relation_size(ack_slots[ack_slot + 1]) > 16777216;

    -- From the oldest slot on, without the current one.
    FOR step IN 1..2 LOOP
        EXIT WHEN has_many_acks;
        part := slots[(slot_number + step) % 3 + 1];
        CONTINUE WHEN pg_relation_size(part) = 0;
        EXECUTE format('SELECT EXISTS (SELECT FROM %s)', part) INTO has_rows;
        EXECUTE format('SELECT max(written_at) FROM (SELECT written_at FROM %s ORDER BY id DESC LIMIT 1) AS newest', part)
            INTO newest_at;
        SELECT sum(pg_total_relation_size(one)) INTO total FROM unnest(slots) AS one;
        is_forced := newest_at < clock_timestamp() - settings.max_age OR total > settings.max_bytes;
        is_behind := has_rows AND NOT EXISTS (SELECT FROM {cursors});
        IF is_behind THEN
            waits_for := 'a first cursor';
        END IF;
        FOR behind IN SELECT * FROM {positions} LOOP
            -- One without a position is behind everything.
            IF behind.seq IS NULL OR {is_behind}(part, coalesce(behind.upper, behind.lower), behind.last) THEN
                is_behind := true;
                waits_for := format('the cursor %s', behind.name);
                EXIT;
            END IF;
        END LOOP;
        CONTINUE WHEN is_behind AND is_forced IS NOT TRUE;
        -- What is lost is counted before the lock, which everything that reads or writes the log waits for. If a cursor moves meanwhile, it is counted
        -- again.
        counted := NULL;
        FOR attempt IN 1..3 LOOP
            BEGIN
                EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', part);
                IF is_behind AND (attempt = 1 OR counted IS NULL) THEN
                    -- It can be had, so it is worth while to count.
                    RAISE EXCEPTION USING ERRCODE = 'PGB05';
                END IF;
                lost_here := 0;
                -- What was committed before the lock is visible now, and nothing is in flight.
                FOR behind IN SELECT * FROM {positions} LOOP
                    CONTINUE WHEN behind.seq IS NOT NULL
                        AND NOT {is_behind}(part, coalesce(behind.upper, behind.lower), behind.last);
                    IF is_forced IS NOT TRUE THEN
                        RAISE lock_not_available;
                    END IF;
                    CONTINUE WHEN behind.seq IS NULL;
                    SELECT x.seq, x.first, x.last, x.records INTO counted_seq, counted_first, counted_last, counted_records
                    FROM jsonb_to_record(counted -> behind.cursor_id::text) AS x (seq bigint, first bigint, last bigint, records bigint);
                    IF counted_seq IS DISTINCT FROM behind.seq THEN
                        IF attempt < 3 THEN
                            RAISE EXCEPTION USING ERRCODE = 'PGB05';
                        END IF;
                        counted_first := NULL;
                        counted_last := NULL;
                        counted_records := 0;
                        SELECT * INTO since FROM {unread}(part, behind.lower, behind.last, behind.upper, NULL);
                    ELSE
                        -- And what was committed since.
                        SELECT * INTO since FROM {unread}(part, behind.lower, behind.last, behind.upper, counted_at);
                    END IF;
                    lost_records := counted_records + since.records;
                    CONTINUE WHEN lost_records = 0;
                    INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last,
                        gap_first, gap_last, gap_records)
                    VALUES (behind.cursor_id, behind.seq + 1, behind.token, behind.slot, behind.lower, behind.high, behind.next, behind.upper,
                        behind.upper_high, behind.upper_next, behind.last, least(behind.gap_first, counted_first, since.first),
                        greatest(behind.gap_last, counted_last, since.last), coalesce(behind.gap_records, 0) + lost_records);
                    lost_here := lost_here + lost_records;
                END LOOP;
                EXECUTE format('TRUNCATE %s', part);
                -- Variables are not restored when this block is undone.
                lost := lost + lost_here;
                truncated := truncated + 1;
                waits_for := NULL;
                EXIT;
            EXCEPTION
                WHEN lock_not_available OR unique_violation THEN
                    -- An open or prepared transaction of a writer or reader.
                    waits_for := format('a transaction that uses %s', part);
                    EXIT;
                WHEN SQLSTATE 'PGB05' THEN
                    SELECT pg_current_snapshot(), coalesce(
                        jsonb_object_agg(positions.cursor_id, to_jsonb(unread) || jsonb_build_object('seq', positions.seq)), jsonb_build_object())
                    INTO counted_at, counted
                    FROM (
                        SELECT * FROM {positions} AS one WHERE one.seq IS NOT NULL AND {is_behind}(part, coalesce(one.upper, one.lower), one.last)
                        OFFSET 0
                    ) AS positions
                    CROSS JOIN LATERAL {unread}(part, positions.lower, positions.last, positions.upper, NULL) AS unread;
            END;
        END LOOP;
    END LOOP;

    -- The next slot must be empty.
    part := slots[slot_number % 3 + 1];
    IF pg_relation_size(slots[(slot_number + 1) % 3 + 1]) = 0 AND pg_relation_size(part) > 0 THEN
        EXECUTE format('SELECT min(written_at) FROM (SELECT written_at FROM %s ORDER BY id LIMIT 1) AS oldest', part) INTO newest_at;
        IF newest_at < clock_timestamp() - settings.slot_age OR pg_total_relation_size(part) > least(settings.slot_bytes, settings.max_bytes / 3)
        THEN
            PERFORM nextval('{log_slot}'::regclass);
            advanced := true;
        END IF;
    END IF;

    -- The positions: the current ones of the larger partition are copied to the other one, and it is truncated.
    part := ack_slots[ack_slot + 1];
    IF truncated = 0 AND pg_relation_size(part) > 262144 THEN
        -- Every reader waits for this lock meanwhile. If many transactions acknowledge, a short attempt may fail each time.
        IF pg_relation_size(part) > 67108864 THEN
            PERFORM set_config('lock_timeout', '1s', true);
        END IF;
        BEGIN
            LOCK TABLE {acks} IN ACCESS EXCLUSIVE MODE;
            INSERT INTO {acks} (cursor_id, seq, token, slot, nonce, lower, high, next, upper, upper_high, upper_next, last,
                gap_first, gap_last, gap_records, at)
            SELECT cursor_id, seq, token, 1 - ack_slot, nonce, lower, high, next, upper, upper_high, upper_next, last,
                gap_first, gap_last, gap_records, at
            FROM {positions} WHERE slot = ack_slot;
            EXECUTE format('TRUNCATE %s', part);
        EXCEPTION WHEN lock_not_available THEN
            waits_for := coalesce(waits_for, 'a transaction that acknowledges');
        END;
    END IF;
    is_empty := NOT EXISTS (SELECT FROM {log});
    RETURN NEXT;
END
$f$;

-- Reads a page of records after a position, and the current position of the cursor. Renews the lease if that is asked for.
--
-- The first row is about the cursor: `key` is its position, `payload` is the snapshot up to which records are read, `micros` the highest id
-- in it. If `at_upper_next` is null, and there are records or the highest id has grown, the last row has it in `key`. Both have no id.
CREATE OR REPLACE FUNCTION {read}(
    of_cursor integer, of_token bigint, renews boolean, page_size bigint,
    at_lower pg_snapshot, at_high bigint, at_next xid8, at_upper pg_snapshot, at_upper_high bigint, at_upper_next xid8,
    at_last bigint
) RETURNS TABLE (id bigint, key text, payload text, headers text, micros bigint)
LANGUAGE plpgsql
-- Without statistics the planner would sort all that is waiting for each page. Such a plan is refused here, whatever the tables contain, so the
-- one plan of a session stays right. A plan for each page would take as long as a thousand records.
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off SET enable_bitmapscan = off SET enable_sort = off SET jit = off SET plan_cache_mode = force_generic_plan
AS $f$
#variable_conflict use_column
DECLARE
    row_count bigint;
BEGIN
    IF pg_current_xact_id_if_assigned() IS NOT NULL THEN
        -- A snapshot does not list the xid of its own transaction, so what this transaction writes would never be read.
        RAISE EXCEPTION 'a cursor is read inside of a transaction that has written' USING ERRCODE = 'active_sql_transaction',
            HINT = 'Read it outside of a transaction.';
    ELSIF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'a cursor is read on a standby, whose snapshots do not list the transactions in progress'
            USING ERRCODE = 'read_only_sql_transaction';
    ELSIF at_upper IS NULL AND {is_here}() IS NOT TRUE THEN
        RAISE EXCEPTION 'the log was copied from another cluster' USING ERRCODE = 'PGB04';
    ELSIF NOT has_sequence_privilege('{log_id_seq}', 'SELECT') THEN
        -- From version 18 on, the last value would be null.
        RAISE insufficient_privilege USING MESSAGE = 'permission denied for the sequences of the log';
    END IF;
    RETURN QUERY
    WITH RECURSIVE place AS MATERIALIZED (
        SELECT
            at_lower AS lower, at_high AS high, at_next AS next, coalesce(at_last, 0) AS last,
            coalesce(at_upper, pg_current_snapshot()) AS upper,
            -- At least as high as every visible id. The highest visible one could only be found behind all records of a transaction in progress.
            coalesce(at_upper_high, greatest(at_high, pg_sequence_last_value('{log_id_seq}'::regclass))) AS upper_high
    ), unlisted (xid) AS (
        -- The transactions that had an xid when `next` was assigned, and are not in the snapshot, which lists none from its xmax on. If there are many, most
        -- are subtransactions, which have no records: then those that have some are found one after the other.
        (SELECT log.xid FROM place CROSS JOIN LATERAL (
            SELECT xid FROM {log}
            WHERE place.last < place.high AND xid >= pg_snapshot_xmax(place.lower) AND xid < place.next ORDER BY xid LIMIT 1
        ) AS log WHERE place.next::text::bigint - pg_snapshot_xmax(place.lower)::text::bigint > 1000)
        UNION ALL
        (SELECT log.xid FROM unlisted CROSS JOIN place CROSS JOIN LATERAL (
            SELECT xid FROM {log} WHERE xid > unlisted.xid AND xid < place.next ORDER BY xid LIMIT 1
        ) AS log)
    ), late (xid) AS MATERIALIZED (
        -- The transactions that were in progress in `lower`, and have committed since.
        SELECT xid FROM place CROSS JOIN LATERAL (
            SELECT pg_snapshot_xip(place.lower) AS xid
            UNION ALL
            SELECT xid FROM unlisted
            UNION ALL
            SELECT number::text::xid8
            FROM generate_series(pg_snapshot_xmax(place.lower)::text::bigint, place.next::text::bigint - 1) AS number
            WHERE place.next::text::bigint - pg_snapshot_xmax(place.lower)::text::bigint <= 1000
        ) AS listed WHERE place.last < place.high AND pg_visible_in_snapshot(xid, place.upper)
    ), sample (xid, id) AS MATERIALIZED (
        -- The first late ids of each transaction, if there are many: together at least as many as a page has, if each has enough.
        SELECT first.xid, first.id FROM late CROSS JOIN place CROSS JOIN LATERAL (
            SELECT xid, id FROM {log}
            WHERE (xid, id) > (late.xid, place.last) AND (xid, id) <= (late.xid, place.high)
            ORDER BY xid, id LIMIT page_size / (SELECT count(*) FROM late) + 1
        ) AS first WHERE (SELECT count(*) FROM late) > 8
    ), bound (id) AS MATERIALIZED (
        -- An id up to which there is at least a page of late records. Without it, a page of each transaction would be read and sorted.
        SELECT least(
            (SELECT id FROM sample ORDER BY id OFFSET page_size - 1 LIMIT 1),
            -- If the first transaction has enough alone.
            (SELECT log.id FROM (SELECT xid, id FROM sample ORDER BY id LIMIT 1) AS first CROSS JOIN place CROSS JOIN LATERAL (
                SELECT id FROM {log} WHERE (xid, id) >= (first.xid, first.id) AND (xid, id) <= (first.xid, place.high)
                ORDER BY xid, id OFFSET page_size - 1 LIMIT 1
            ) AS log)
        )
    )
    SELECT
        NULL,
        (SELECT text FROM {positions} WHERE cursor_id = of_cursor),
        place.upper::text, NULL, place.upper_high
    FROM place
    UNION ALL
    -- Records of transactions that were in progress in `lower`: their ids are among those that were visible.
    (SELECT log.* FROM place CROSS JOIN bound CROSS JOIN late CROSS JOIN LATERAL (
        SELECT id, key, {payload_text}, headers::text, (date_part('epoch', written_at) * 1000000)::bigint FROM {log}
        -- The comparison of rows is what the index on both columns is for.
        WHERE (xid, id) > (late.xid, place.last) AND (xid, id) <= (late.xid, least(place.high, bound.id))
        ORDER BY xid, id LIMIT page_size
    ) AS log ORDER BY log.id LIMIT page_size)
    UNION ALL
    -- Records with higher ids than all that were visible in `lower`.
    (SELECT log.* FROM place CROSS JOIN LATERAL (
        SELECT id, key, {payload_text}, headers::text, (date_part('epoch', written_at) * 1000000)::bigint FROM {log}
        WHERE id > greatest(place.last, place.high) AND id <= place.upper_high AND pg_visible_in_snapshot(xid, place.upper)
        ORDER BY id LIMIT page_size
    ) AS log);
    GET DIAGNOSTICS row_count = ROW_COUNT;
    -- Without records the position moves too, so that the next read does not begin below the records of a large transaction in progress again.
    IF at_upper_next IS NULL AND (row_count > 1 OR pg_sequence_last_value('{log_id_seq}'::regclass) > at_high) THEN
        -- It is assigned after the snapshot.
        RETURN QUERY SELECT NULL::bigint, pg_current_xact_id()::text, NULL, NULL, NULL::bigint;
    END IF;
    IF renews THEN
        UPDATE {cursors} SET leased_until = clock_timestamp() + lease WHERE cursor_id = of_cursor AND token = of_token;
    END IF;
END
$f$;
