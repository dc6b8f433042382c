SELECT
    cursors.name,
    cursors.holder,
    cursors.leased_until > clock_timestamp(),
    cursors.token,
    (date_part('epoch', clock_timestamp() - positions.at) * 1000000)::bigint,
    (SELECT coalesce(max(id), 0) FROM {log}) - greatest(positions.high, positions.last),
    (SELECT (date_part('epoch', clock_timestamp() - written_at) * 1000000)::bigint FROM {log}
    WHERE id > greatest(positions.high, positions.last) ORDER BY id LIMIT 1),
    positions.gap_records,
    {is_here}(),
    (date_part('epoch', cursors.leased_until - clock_timestamp()) * 1000000)::bigint,
    positions.text
FROM {cursors} AS cursors
LEFT JOIN {positions} AS positions ON positions.cursor_id = cursors.cursor_id
ORDER BY cursors.name
