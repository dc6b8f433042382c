-- Takes at most $1 changes, the oldest first. Of several consumers, each change is for one.
DELETE FROM user_changes WHERE id IN (
    SELECT id FROM user_changes ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::bigint
) RETURNING user_id, action
