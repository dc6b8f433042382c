SELECT
    (SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'pgmq'),
    pg_catalog.to_regnamespace('pgmq') IS NOT NULL,
    CASE
        WHEN pg_catalog.to_regnamespace('pgmq') IS NULL THEN NULL
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute
            WHERE attrelid = pg_catalog.to_regclass('pgmq.metrics_result') AND attname = 'default_partition_length') THEN '1.13'
        WHEN pg_catalog.to_regprocedure('pgmq.read_grouped_head_with_poll(text, integer, integer, integer, integer)') IS NOT NULL THEN '1.12'
        WHEN pg_catalog.to_regprocedure('pgmq.list_topic_bindings()') IS NOT NULL THEN '1.11'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute
            WHERE attrelid = pg_catalog.to_regclass('pgmq.message_record') AND attname = 'last_read_at') THEN '1.10'
        WHEN pg_catalog.to_regprocedure('pgmq.read_grouped(text, integer, integer)') IS NOT NULL THEN '1.9'
        WHEN pg_catalog.to_regprocedure('pgmq.enable_notify_insert(text, integer)') IS NOT NULL THEN '1.8'
        WHEN pg_catalog.to_regprocedure('pgmq.enable_notify_insert(text)') IS NOT NULL THEN '1.7'
        WHEN pg_catalog.to_regprocedure('pgmq.acquire_queue_lock(text)') IS NOT NULL THEN '1.6'
        WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute
            WHERE attrelid = pg_catalog.to_regclass('pgmq.message_record') AND attname = 'headers') THEN '1.5'
    END,
    CASE WHEN pg_catalog.to_regnamespace('pgmq') IS NOT NULL THEN (
        SELECT pg_catalog.string_agg(signature, ', ') FROM pg_catalog.unnest(ARRAY[
            'pgmq.format_table_name(text, text)',
            'pgmq.read(text, integer, integer, jsonb)',
            'pgmq.send(text, jsonb, jsonb, integer)',
            'pgmq.send_batch(text, jsonb[], integer)',
            'pgmq.archive(text, bigint[])',
            'pgmq.delete(text, bigint[])'
        ]) AS signature WHERE pg_catalog.to_regprocedure(signature) IS NULL)
    END
