-- Each row that is inserted, updated or deleted is notified when its transaction is committed: {"user_id": 7, "action": "UPDATE", "timestamp": …}.
-- NEW is null for a DELETE, and OLD for an INSERT.
CREATE FUNCTION notify_user_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_catalog.pg_notify('user_updates', pg_catalog.json_build_object(
        'user_id', coalesce(NEW.id, OLD.id),
        'action', TG_OP,
        'timestamp', pg_catalog.transaction_timestamp())::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_user_change AFTER INSERT OR UPDATE OR DELETE ON users
FOR EACH ROW EXECUTE FUNCTION notify_user_change();
