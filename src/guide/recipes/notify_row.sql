-- The row itself is the payload if it is short enough. If it is not, the payload has only the id, and the consumer reads the row:
-- pg_notify refuses a payload of more than 7,999 bytes, and the transaction of the writer would fail with it.
CREATE FUNCTION notify_document_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    document record;
    payload text;
BEGIN
    IF TG_OP = 'DELETE' THEN
        document := OLD;
    ELSE
        document := NEW;
    END IF;
    payload := pg_catalog.json_build_object('id', document.id, 'action', TG_OP, 'document', document)::text;
    -- Bytes in the encoding of the database, which is what the server counts.
    IF pg_catalog.octet_length(payload) > 7999 THEN
        payload := pg_catalog.json_build_object('id', document.id, 'action', TG_OP)::text;
    END IF;
    PERFORM pg_catalog.pg_notify('documents', payload);
    RETURN NULL;
END
$$;

CREATE TRIGGER notify_document_change AFTER INSERT OR UPDATE OR DELETE ON documents
FOR EACH ROW EXECUTE FUNCTION notify_document_change();
