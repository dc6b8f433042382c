DO $f$
DECLARE
    snapshot pg_snapshot;
    top bigint;
    highest bigint;
    position record;
    first bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a log is rebased with the isolation %', current_setting('transaction_isolation')
            USING ERRCODE = 'active_sql_transaction', HINT = 'Use READ COMMITTED.';
    END IF;
    PERFORM set_config('search_path', 'pg_catalog', true);
    -- Afterwards no transaction is in progress that has written records or positions. The order is that of a reader.
    LOCK TABLE {cursors}, {log}, {acks} IN SHARE ROW EXCLUSIVE MODE;
    SELECT pg_current_snapshot(), coalesce(max(id), 0) INTO snapshot, top FROM {log};
    -- Logical replication copies no sequences.
    SELECT greatest(top, max(high), max(upper_high)) INTO highest FROM {positions};
    IF coalesce(pg_sequence_last_value('{log_id_seq}'::regclass), 0) < highest THEN
        PERFORM setval('{log_id_seq}'::regclass, highest);
    END IF;
    IF pg_sequence_last_value('{log_slot}'::regclass) IS NULL THEN
        PERFORM nextval('{log_slot}'::regclass);
    END IF;
    -- An id of a cursor is never used again, and a deleted cursor leaves no positions.
    DELETE FROM {acks} WHERE cursor_id NOT IN (SELECT cursor_id FROM {cursors});
    PERFORM setval(
        pg_get_serial_sequence('{cursors}', 'cursor_id')::regclass,
        greatest(1, (SELECT max(cursor_id) FROM {cursors}), pg_sequence_last_value(pg_get_serial_sequence('{cursors}', 'cursor_id')::regclass))
    );
    FOR position IN SELECT * FROM {positions} LOOP
        -- The xids of old records are compared with the old snapshots. New records have ids above all in the positions.
        SELECT min(id) INTO first FROM {log}
        WHERE (id > position.high OR NOT pg_visible_in_snapshot(xid, position.lower))
            AND NOT coalesce(id <= position.last AND pg_visible_in_snapshot(xid, position.upper), false);
        INSERT INTO {acks} (cursor_id, seq, token, slot, lower, high, next, upper, upper_high, upper_next, last,
            gap_first, gap_last, gap_records)
        SELECT position.cursor_id, coalesce(position.seq, 0) + 1, coalesce(position.token, 0), coalesce(position.slot, 0), '1:1:', 0, '1',
            snapshot, top, pg_current_xact_id(),
            CASE WHEN position.seq IS NULL THEN 0 ELSE coalesce(first - 1, top) END,
            position.gap_first, position.gap_last, position.gap_records;
    END LOOP;
    -- The xids of the old cluster can be those of later transactions of this one. 2 is visible in every snapshot.
    UPDATE {log} SET xid = '2' WHERE NOT pg_visible_in_snapshot(xid, snapshot);
    UPDATE {settings} SET system_identifier = control.system_identifier FROM pg_control_system() AS control;
    UPDATE {cursors} SET leased_until = NULL;
END
$f$;
