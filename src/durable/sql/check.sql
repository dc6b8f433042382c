SELECT
    (SELECT version FROM {settings}) AS version,
    (SELECT string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = '{log}'::regclass AND attnum > 0 AND NOT attisdropped) AS columns,
    (SELECT seqcache FROM pg_sequence WHERE seqrelid = pg_get_serial_sequence('{log}', 'id')::regclass) AS cache,
    (SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '{log}'::regclass AND attname = 'payload') AS payload,
    (SELECT count(*) FROM pg_index WHERE indrelid = '{log}'::regclass AND indisvalid) AS indexes,
    (SELECT string_agg(wanted.privilege || ' on ' || replace(wanted.relation, '"', ''), ', ')
    FROM (VALUES
        ('{log}', 'SELECT'),
        ('{acks}', 'SELECT'),
        ('{acks}', 'INSERT'),
        ('{log_id_seq}', 'SELECT'),
        ('{positions}', 'SELECT'),
        ('{settings}', 'SELECT'),
        ('{cursors}', 'SELECT'),
        ('{cursors}', 'INSERT'),
        ('{cursors}', 'UPDATE')
    ) AS wanted (relation, privilege)
    WHERE NOT has_table_privilege(wanted.relation, wanted.privilege)) AS rights,
    concat_ws(', ',
        CASE WHEN (SELECT attidentity FROM pg_attribute WHERE attrelid = '{log}'::regclass AND attname = 'id') <> 'a' THEN 'id' END,
        (SELECT string_agg(attname, ', ') FROM pg_attribute JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
        WHERE attrelid = '{log}'::regclass AND (
            attname = 'xid' AND pg_get_expr(adbin, adrelid) <> 'pg_current_xact_id()'
            OR attname = 'slot' AND pg_get_expr(adbin, adrelid) NOT LIKE '%pg_sequence_last_value(%')),
        CASE WHEN NOT (SELECT atthasdef FROM pg_attribute WHERE attrelid = '{log}'::regclass AND attname = 'xid') THEN 'xid' END
    ) AS defaults
