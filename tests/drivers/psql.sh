#!/usr/bin/env bash
set -euo pipefail
psql --version | awk '{ print $3 }'
output=$(psql -X --quiet --tuples-only --no-align 2>&1 <<'SQL'
LISTEN orders;
NOTIFY orders, 'plain';
NOTIFY orders, $$it's$$;
\set payload 'bound é'
SELECT pg_notify('orders', :'payload');
BEGIN;
NOTIFY orders, 'rolled back';
ROLLBACK;
BEGIN;
NOTIFY orders, 'committed';
COMMIT;
CREATE TABLE stock (id int);
SELECT id FROM missing WHERE id = 7;
\echo :LAST_ERROR_SQLSTATE
SELECT 1;
SQL
)
received=$(sed -n 's/^Asynchronous notification "orders" with payload "\(.*\)" received from .*/\1/p' <<<"$output")
[ "$received" = $'plain\nit\'s\nbound é\ncommitted' ] && [ "$(tail -n 2 <<<"$output")" = $'0A000\n1' ] || {
    echo "$output" >&2
    exit 1
}
