-- The payload is the key of the row, and nothing else: what a mirror reads. An UPDATE that changes the key notifies the old one, which vanishes, and the
-- new one; otherwise the two are equal, and arrive once. TRUNCATE has no rows: an empty payload lets a mirror read all rows.
CREATE FUNCTION notify_order_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'TRUNCATE' THEN
        PERFORM pg_catalog.pg_notify('orders_channel', '');
        RETURN NULL;
    END IF;
    IF TG_OP <> 'INSERT' THEN
        PERFORM pg_catalog.pg_notify('orders_channel', OLD.id::text);
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM pg_catalog.pg_notify('orders_channel', NEW.id::text);
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_order_key AFTER INSERT OR UPDATE OR DELETE ON orders
FOR EACH ROW EXECUTE FUNCTION notify_order_key();

CREATE TRIGGER notify_order_truncate AFTER TRUNCATE ON orders
FOR EACH STATEMENT EXECUTE FUNCTION notify_order_key();
