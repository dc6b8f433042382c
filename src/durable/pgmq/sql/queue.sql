SELECT
    names.queue_table,
    queue IS NOT NULL,
    pg_catalog.concat_ws(', ',
        CASE WHEN NOT pg_catalog.has_table_privilege(queue, 'SELECT') THEN 'SELECT on ' || queue::text END,
        CASE WHEN NOT pg_catalog.has_table_privilege(queue, 'UPDATE') THEN 'UPDATE on ' || queue::text END,
        CASE WHEN NOT pg_catalog.has_table_privilege(queue, 'DELETE') THEN 'DELETE on ' || queue::text END,
        CASE WHEN NOT pg_catalog.has_table_privilege(archive, 'INSERT') THEN 'INSERT on ' || archive::text END,
        CASE WHEN NOT pg_catalog.has_table_privilege(archive, 'SELECT') THEN 'SELECT on ' || archive::text END),
    EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = queue AND tgname = 'trigger_notify_queue_insert_listeners'),
    pg_catalog.getdatabaseencoding() IN ('UTF8', 'SQL_ASCII')
FROM (SELECT pgmq.format_table_name($1::text, 'q') AS queue_table, pgmq.format_table_name($1::text, 'a') AS archive_table) AS names,
    LATERAL (SELECT pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', names.queue_table)) AS queue,
        pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', names.archive_table)) AS archive) AS tables
