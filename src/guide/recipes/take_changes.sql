-- Takes at most $1 changes, and returns them in the order of their ids. Of several consumers, each change is for one. MATERIALIZED: the rows are
-- chosen once. With `WHERE id IN (SELECT … LIMIT …)` the server may choose again for each row, and take more.
WITH taken AS MATERIALIZED (
    SELECT id FROM public.user_changes ORDER BY id FOR UPDATE SKIP LOCKED LIMIT $1::bigint
), deleted AS (
    DELETE FROM public.user_changes AS change USING taken WHERE change.id = taken.id
    RETURNING change.id, change.user_id, change.action
)
SELECT user_id, action FROM deleted ORDER BY id
