SELECT
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('{log}')),
    (SELECT coalesce(max(id), 0) FROM {log}),
    (SELECT (date_part('epoch', clock_timestamp() - written_at) * 1000000)::bigint FROM {log} ORDER BY id LIMIT 1),
    (SELECT slot_bytes FROM {settings}),
    (SELECT (date_part('epoch', max_age) * 1000000)::bigint FROM {settings}),
    (SELECT max_bytes FROM {settings}),
    (SELECT sum(pg_total_relation_size(relid)) FROM pg_partition_tree('{acks}'))
