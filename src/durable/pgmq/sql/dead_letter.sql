SELECT
    queue IS NOT NULL,
    pg_catalog.concat_ws(', ',
        CASE WHEN NOT pg_catalog.has_table_privilege(queue, 'INSERT') THEN 'INSERT on ' || queue::text END,
        CASE WHEN NOT pg_catalog.has_table_privilege(queue, 'SELECT') THEN 'SELECT on ' || queue::text END,
        CASE WHEN is_throttled AND NOT pg_catalog.has_table_privilege(throttle, 'SELECT') THEN 'SELECT on ' || throttle::text END,
        CASE WHEN is_throttled AND NOT pg_catalog.has_table_privilege(throttle, 'UPDATE') THEN 'UPDATE on ' || throttle::text END)
FROM (SELECT pg_catalog.to_regclass(pg_catalog.format('pgmq.%I', pgmq.format_table_name($1::text, 'q'))) AS queue,
    pg_catalog.to_regclass('pgmq.notify_insert_throttle') AS throttle) AS tables,
    LATERAL (SELECT throttle IS NOT NULL AND EXISTS (SELECT FROM pg_catalog.pg_trigger
        WHERE tgrelid = queue AND tgname = 'trigger_notify_queue_insert_listeners') AS is_throttled) AS trigger
