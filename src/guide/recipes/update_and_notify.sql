-- The change and its notification in one statement. If no row has the id, there is no notification.
WITH changed AS (UPDATE orders SET status = $2 WHERE id = $1::bigint RETURNING id)
SELECT pg_notify('orders_channel', id::text) FROM changed
