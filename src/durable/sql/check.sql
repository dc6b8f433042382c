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
        ('{ack_slot}', 'SELECT'),
        ('{positions}', 'SELECT'),
        ('{settings}', 'SELECT'),
        ('{cursors}', 'SELECT'),
        ('{cursors}', 'INSERT'),
        ('{cursors}', 'UPDATE')
    ) AS wanted (relation, privilege)
    WHERE NOT has_table_privilege(wanted.relation, wanted.privilege)) AS rights,
    (SELECT system_identifier FROM pg_control_system()) AS system_identifier
