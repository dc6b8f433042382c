-- The trigger only records the change, in the transaction of the writer. No NOTIFY, so no commit waits for another one. The program calls
-- `Notifier::nudge("user_changes", …)` after its COMMIT, and the consumers read at an interval too.
--
-- Write your schema in place of public. The trigger runs with the rights of the writer: GRANT INSERT ON public.user_changes to every role that writes
-- users. The consumer needs SELECT, UPDATE (for FOR UPDATE) and DELETE. The id is the primary key of users, so it is not null.
CREATE TABLE public.user_changes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id bigint NOT NULL,
    action text NOT NULL
);

CREATE FUNCTION record_user_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO public.user_changes (user_id, action) VALUES (coalesce(NEW.id, OLD.id), TG_OP);
    RETURN NULL;
END
$$;

CREATE TRIGGER record_user_change AFTER INSERT OR UPDATE OR DELETE ON users
FOR EACH ROW EXECUTE FUNCTION record_user_change();
