DO $f$
DECLARE
    snapshot pg_snapshot;
    top bigint;
    newest record;
    first bigint;
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        RAISE EXCEPTION 'a log is rebased with the isolation %', current_setting('transaction_isolation')
            USING ERRCODE = 'active_sql_transaction', HINT = 'Use READ COMMITTED.';
    END IF;
    -- Afterwards no transaction is in progress that has written records or positions.
    LOCK TABLE {log}, {acks} IN SHARE ROW EXCLUSIVE MODE;
    SELECT pg_current_snapshot(), coalesce(max(id), 0) INTO snapshot, top FROM {log};
    FOR newest IN SELECT * FROM {positions} LOOP
        -- The xids of old records are compared with the old snapshots. New records have ids above all in the positions.
        SELECT min(id) INTO first FROM {log}
        WHERE (id > newest.high OR NOT pg_visible_in_snapshot(xid, newest.lower))
            AND NOT coalesce(id <= newest.last AND pg_visible_in_snapshot(xid, newest.upper), false);
        INSERT INTO {acks} (cursor_id, seq, token, lower, high, next, upper, upper_high, upper_next, last,
            gap_first, gap_last, gap_records)
        SELECT newest.cursor_id, newest.seq + 1, newest.token, '1:1:', 0, '1', snapshot, top, pg_current_xact_id(),
            coalesce(first - 1, top), newest.gap_first, newest.gap_last, newest.gap_records;
    END LOOP;
    -- The xids of the old cluster can be those of later transactions of this one. 2 is visible in every snapshot.
    UPDATE {log} SET xid = '2' WHERE NOT pg_visible_in_snapshot(xid, snapshot);
    UPDATE {cursors} SET system_identifier = control.system_identifier, leased_until = NULL
    FROM pg_control_system() AS control;
END
$f$;
