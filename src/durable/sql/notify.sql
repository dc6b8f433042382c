CREATE OR REPLACE FUNCTION {notify}() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $f$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END
$f$;
CREATE TRIGGER pgbell_notify AFTER INSERT ON {log} FOR EACH STATEMENT EXECUTE FUNCTION {notify}('{channel}');
