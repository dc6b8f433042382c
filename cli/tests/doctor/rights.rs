//! Roles with few rights, and what they have planted for those with all.

use pgbell_testkit::Installation;
use tokio::runtime::Runtime;

use super::common::run;
use super::{builder, doctor, execute, faults, on_versions, parsed, session};

/// Objects of a user of the database that look like those of the server, of pgmq and of an outbox. Each leaves a mark if it runs: a role.
const PLANTED: &str = r"
    CREATE ROLE mallory LOGIN PASSWORD 'hunter2';
    GRANT CREATE ON DATABASE postgres TO mallory;
    GRANT ALL ON SCHEMA public TO mallory;
    SET SESSION AUTHORIZATION mallory;
    CREATE FUNCTION public.mark() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'planted code runs as %', current_user; END$$;
    CREATE FUNCTION public.pg_notification_queue_usage() RETURNS double precision LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN 0 END';
    CREATE FUNCTION public.current_setting(varchar) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN '''' END';
    CREATE FUNCTION public.lower(name) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN '''' END';
    CREATE FUNCTION public.count(name) RETURNS bigint LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN 0 END';
    CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT public.mark()';
    CREATE OPERATOR public.= (LEFTARG = name, RIGHTARG = text, FUNCTION = public.same);
    CREATE FUNCTION public.glued(name, text) RETURNS text LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN '''' END';
    CREATE OPERATOR public.|| (LEFTARG = name, RIGHTARG = text, FUNCTION = public.glued);
    CREATE TABLE public.pg_stat_activity (pid int);
    CREATE SCHEMA pgmq;
    CREATE TABLE pgmq.meta (queue_name text);
    INSERT INTO pgmq.meta VALUES ('jobs');
    CREATE VIEW pgmq.q_jobs AS SELECT 1 AS msg_id, now() AS enqueued_at, 1 AS read_ct WHERE public.mark();
    CREATE FUNCTION pgmq.metrics_all() RETURNS TABLE (queue_name text) LANGUAGE sql AS 'SELECT CASE WHEN public.mark() THEN '''' END';
    RESET SESSION AUTHORIZATION;";

#[test]
fn nothing_that_a_user_has_planted_runs_with_the_rights_of_the_role_that_looks() {
    on_versions(|installation: &Installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        Runtime::new().unwrap().block_on(async {
            let mut admin = session(&url).await;
            execute(&mut admin, PLANTED).await;
            // It would run for every other program that uses such a name.
            let ran = admin.query("SELECT public.mark()", &[]).await.unwrap_err();
            assert!(ran.to_string().contains("planted code runs as"), "{ran}");
        });
        let mallory = cluster.url("mallory", Some("hunter2"), "postgres");
        let mut init = super::common::pgbell();
        let ended = run(init.env("DATABASE_URL", &mallory).args(["outbox", "init", "public.shop"]));
        assert_eq!(ended.0, 0, "{}", ended.2);
        let (code, report) = parsed(&run(&mut doctor(&url, &["--verbose"])));
        assert!(!report.to_string().contains("planted code"), "{report}");
        assert_eq!(code, 0, "{report}");
        for (check, name) in
            [("pgmq", "pgmq is not examined"), ("outbox", "the outbox public.shop is not examined")]
        {
            let found = faults(&report, check);
            assert_eq!(found.len(), 1, "{report}");
            assert_eq!(found[0]["status"], "note");
            let text = found[0].to_string();
            assert!(text.contains(name) && text.contains("belong to mallory"), "{text}");
        }
        // Its owner can look.
        let (_, report) = parsed(&run(&mut doctor(&mallory, &["--only", "outbox"])));
        assert!(report.to_string().contains("1 outbox with 0 cursors"), "{report}");
    });
}

/// A schema and a table whose names are SQL, for a program that would put them into a text.
#[test]
fn names_that_are_sql_are_not_run() {
    on_versions(|installation: &Installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        Runtime::new().unwrap().block_on(async {
            let mut admin = session(&url).await;
            let sql = r#"
                CREATE FUNCTION public.mark() RETURNS boolean LANGUAGE plpgsql AS $$BEGIN RAISE EXCEPTION 'planted code runs'; END$$;
                CREATE ROLE mallory;
                CREATE SCHEMA "x%2'" AUTHORIZATION mallory;
                SET ROLE mallory;
                CREATE TABLE "x%2'".") OR public.mark() --'" (id int) PARTITION BY LIST (id);
                CREATE TABLE "x%2'".") OR public.mark() --'_settings" ();
                CREATE TABLE "x%2'".") OR public.mark() --'_cursors" ();
                CREATE TABLE "x%2'".") OR public.mark() --'_positions" ();
                RESET ROLE"#;
            execute(&mut admin, sql).await;
        });
        let (code, report) = parsed(&run(&mut doctor(&url, &["--only", "outbox"])));
        assert_eq!(code, 0, "{report}");
        let text = report.to_string();
        assert!(!text.contains("planted code") && text.contains("belong to mallory"), "{text}");
    });
}

#[test]
fn what_a_role_cannot_see_is_not_in_order() {
    on_versions(|installation: &Installation| {
        let cluster = builder(installation).start().unwrap();
        Runtime::new().unwrap().block_on(async {
            let mut admin = session(&cluster.url_for_superuser()).await;
            execute(&mut admin, "CREATE ROLE guest LOGIN PASSWORD 'hunter2'").await;
        });
        let guest = cluster.url("guest", Some("hunter2"), "postgres");
        let (code, report) = parsed(&run(&mut doctor(&guest, &[])));
        assert_eq!(code, 3, "{report}");
        for check in ["readers", "transactions"] {
            let found = faults(&report, check);
            assert_eq!(found.len(), 1, "{report}");
            assert!(found[0].to_string().contains("GRANT pg_monitor"), "{report}");
        }
    });
}

/// A statement that waits would keep a monitoring system waiting, and would stay on the server.
#[test]
fn a_check_that_takes_too_long_is_unknown_and_leaves_nothing_on_the_server() {
    let cluster = super::common::cluster();
    let url = cluster.url_for_superuser();
    Runtime::new().unwrap().block_on(async {
        let mut locker = session(&url).await;
        execute(&mut locker, "BEGIN; LOCK TABLE pg_catalog.pg_trigger IN ACCESS EXCLUSIVE MODE")
            .await;
        let ended = tokio::task::spawn_blocking({
            let url = url.clone();
            move || run(&mut doctor(&url, &["--only", "triggers", "--timeout", "500ms"]))
        });
        let (code, report) = parsed(&ended.await.unwrap());
        assert_eq!(code, 3, "{report}");
        let left = "SELECT count(*) FROM pg_locks WHERE NOT granted";
        let rows = locker.query(left, &[]).await.unwrap();
        assert_eq!(rows.get(0).unwrap().get(0), Some("0"));
        execute(&mut locker, "ROLLBACK").await;
    });
}
