-- Writes a record to the log public.outbox for each changed row of orders, in the transaction of the change.
CREATE FUNCTION log_order() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    changed record := CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
BEGIN
    INSERT INTO public.outbox (key, payload, headers)
    VALUES (changed.id::text, to_jsonb(changed), jsonb_build_object('operation', lower(TG_OP)));
    RETURN NULL;
END
$$;
-- Otherwise each role could let it write what it likes, with a table of its own.
REVOKE EXECUTE ON FUNCTION log_order() FROM PUBLIC;
CREATE TRIGGER log_order AFTER INSERT OR UPDATE OR DELETE ON orders FOR EACH ROW EXECUTE FUNCTION log_order();
