//! `pgbell doctor` on servers that were put into the state of each fault, of the oldest and the newest version that are installed.

#[path = "../common/mod.rs"]
mod common;
mod rights;

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use common::{pgbell, run};
use pgbell::Connection;
use pgbell_testkit::{
    Auth, Certificates, Cluster, ClusterBuilder, Installation, Leaf, PgBouncer, PoolMode,
};
use serde_json::Value;
use tokio::runtime::Runtime;

/// The longest time until a state is found.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Runs a test on the oldest and the newest version, or on all of them: `scripts/doctor.sh`.
fn on_versions(test: impl Fn(&Installation)) {
    let all = Installation::matrix().unwrap();
    if std::env::var_os("PGBELL_ALL_VERSIONS").is_some() {
        return all.iter().for_each(test);
    }
    let (first, last) = (all.first().unwrap(), all.last().unwrap());
    test(first);
    if last.major() != first.major() {
        test(last);
    }
}

fn builder(installation: &Installation) -> ClusterBuilder {
    Cluster::builder().installation(installation.clone()).auth(Auth::ScramSha256)
}

/// The program, with the checks of this server whose version is no fault here.
fn doctor(url: &str, arguments: &[&str]) -> Command {
    let mut command = pgbell();
    command.env("DATABASE_URL", url).args(["doctor", "--format", "json", "--skip", "version"]);
    command.args(arguments);
    command
}

fn parsed(ended: &(i32, String, String)) -> (i32, Value) {
    let (code, out, err) = ended;
    assert_eq!(err, "");
    (*code, serde_json::from_str(out).unwrap_or_else(|error| panic!("{error}: {out}")))
}

/// Returns the findings of one check that are not in order.
fn faults<'a>(report: &'a Value, check: &str) -> Vec<&'a Value> {
    let all = report["findings"].as_array().unwrap();
    all.iter().filter(|one| one["check"] == check && one["status"] != "ok").collect()
}

/// Runs the program until a check finds a fault. Returns the exit code and the finding.
fn until_found(url: &str, check: &str, arguments: &[&str]) -> (i32, Value) {
    let begun = Instant::now();
    loop {
        let (code, report) = parsed(&run(&mut doctor(url, arguments)));
        if let Some(found) = faults(&report, check).first() {
            return (code, (*found).clone());
        }
        assert!(begun.elapsed() < TIMEOUT, "{check} is not found: {report}");
        thread::sleep(Duration::from_millis(50));
    }
}

#[track_caller]
fn assert_found(found: &(i32, Value), status: &str, code: i32, texts: &[&str]) {
    assert_eq!((found.0, found.1["status"].as_str().unwrap()), (code, status), "{}", found.1);
    for text in texts {
        assert!(found.1.to_string().contains(text), "{text}: {}", found.1);
    }
}

async fn session(url: &str) -> Connection {
    Connection::connect(url).await.unwrap()
}

async fn execute(session: &mut Connection, sql: &str) {
    session.simple_query(sql).await.unwrap();
}

#[test]
fn a_healthy_server_has_no_finding() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        let (code, report) = parsed(&run(&mut doctor(&url, &[])));
        let all = report["findings"].as_array().unwrap();
        assert!(all.iter().all(|one| one["status"] == "ok"), "{report}");
        assert_eq!((code, all.len()), (0, 15), "{report}");
        let mut text = pgbell();
        text.env("DATABASE_URL", &url).args(["doctor", "--skip", "version"]);
        let (code, out, err) = run(&mut text);
        let (place, version) = (cluster.port(), cluster.version());
        assert!(out.starts_with(&format!("127.0.0.1:{place}, PostgreSQL {version}")), "{out}");
        assert!(out.ends_with("\n15 ok\n") && out.lines().count() == 2, "{out}");
        assert_eq!((code, err.as_str()), (0, ""));
    });
}

/// The client that does not read fills the queue, and what it reads later is on disk.
#[test]
fn a_client_that_listens_and_does_not_read_is_named_with_what_follows() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        Runtime::new().unwrap().block_on(async {
            let mut stalled = session(&format!("{url}?application_name=billing")).await;
            stalled.listen("stalled").await.unwrap();
            let pid = stalled.process_id().unwrap().to_string();
            let mut sender = session(&url).await;
            let send = "SELECT count(pg_notify('stalled', repeat('x', 7900) || i)) FROM generate_series(1, 5000) AS i";
            execute(&mut sender, send).await;
            let found = until_found(&url, "readers", &["--watch", "200ms"]);
            let cure = format!("pg_terminate_backend({pid})");
            assert_found(&found, "warning", 1, &["billing of", "has not read in the last 0.2 s", &cure]);
            assert_eq!(found.1["metrics"]["stalled_readers"], 1);
            let found = until_found(&url, "queue", &["--queue", "0.01,0.02"]);
            assert_found(&found, "critical", 2, &["% of the notification queue is in use"]);

            let mut count = 0;
            while count < 5_000 {
                count += stalled.recv_batch().await.unwrap().len();
            }
            let found = until_found(&url, "slru", &[]);
            assert_found(&found, "note", 0, &["pages of the notification queue were read from disk"]);
        });
    });
}

#[test]
fn the_cost_of_a_notify_is_measured_when_it_is_asked_for() {
    let url = common::cluster().url_for_superuser();
    let (code, report) = parsed(&run(&mut doctor(&url, &["--measure", "--only", "measure"])));
    let metrics = &report["findings"][0]["metrics"];
    assert_eq!(code, 0);
    for name in ["commits_per_second", "notifying_commits_per_second"] {
        assert!(metrics[name].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn the_holder_of_the_commit_lock_is_named_with_the_reason() {
    on_versions(|installation| {
        let cluster = builder(installation).setting("synchronous_commit", "on").start().unwrap();
        let url = cluster.url_for_superuser();
        cluster.set("synchronous_standby_names", "missing").unwrap();
        let commit = "BEGIN; SELECT pg_logical_emit_message(true, '', ''); SELECT pg_notify('a', ''); COMMIT";
        Runtime::new().unwrap().block_on(async {
            let (mut holder, mut waiter) =
                (session(&format!("{url}?application_name=first")).await, session(&url).await);
            let pid = holder.process_id().unwrap();
            let both = async {
                let waits = async {
                    let begun = Instant::now();
                    let mut admin = session(&url).await;
                    let sql = format!(
                        "SELECT wait_event = 'SyncRep' FROM pg_stat_activity WHERE pid = {pid}"
                    );
                    while admin.query(&sql, &[]).await.unwrap().get(0).unwrap().get(0) != Some("t")
                    {
                        assert!(begun.elapsed() < TIMEOUT, "the first commit does not wait");
                    }
                    waiter.simple_query(commit).await.unwrap();
                };
                tokio::join!(waits, async { holder.simple_query(commit).await.unwrap() });
            };
            let look = tokio::task::spawn_blocking({
                let url = url.clone();
                move || {
                    let found =
                        until_found(&url, "commit-lock", &["--no-probe", "--lock", "100ms,1h"]);
                    // The probe waits for the lock too, and leaves nothing that waits.
                    let only = ["--only", "delivery", "--timeout", "500ms"];
                    let probe = parsed(&run(&mut doctor(&url, &only)));
                    let after =
                        until_found(&url, "commit-lock", &["--no-probe", "--lock", "100ms,1h"]);
                    assert_eq!(after.1["metrics"]["commit_lock_waiting"], 1, "{}", after.1);
                    assert!(
                        probe.0 == 2 && probe.1.to_string().contains("a NOTIFY cannot commit"),
                        "{}",
                        probe.1
                    );
                    found
                }
            });
            let look = async {
                let found = look.await.unwrap();
                cluster.set("synchronous_standby_names", "").unwrap();
                found
            };
            let (found, ()) = tokio::join!(look, both);
            let holder = format!("process {pid} (first of");
            assert_found(
                &found,
                "warning",
                1,
                &["1 commit waits for the lock", &holder, "waits for a synchronous standby"],
            );
        });
    });
}

#[test]
fn transactions_triggers_timeouts_slots_and_settings_are_named() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        Runtime::new().unwrap().block_on(async {
            let mut open = session(&format!("{url}?application_name=report")).await;
            execute(&mut open, "BEGIN; SELECT 1").await;
            let found = until_found(&url, "transactions", &["--transaction", "10ms,1h"]);
            let pid = format!("process {} (report of", open.process_id().unwrap());
            assert_found(&found, "warning", 1, &[&pid, "idle in transaction"]);
            execute(&mut open, "COMMIT").await;

            execute(
                &mut open,
                "CREATE TABLE orders (id int);
                CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_notify('orders', ''); RETURN NEW; END$$;
                CREATE TRIGGER announce AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION announce()",
            )
            .await;
            let found = until_found(&url, "triggers", &[]);
            assert_found(&found, "note", 0, &["public.announce() on public.orders"]);

            execute(&mut open, "SELECT pg_create_physical_replication_slot('gone', true)").await;
            execute(&mut open, "SELECT pg_logical_emit_message(false, '', repeat('x', 100000))").await;
            let found = until_found(&url, "slots", &["--slot", "64kB,1TB"]);
            assert_found(&found, "warning", 1, &["the replication slot gone has no reader", "max_slot_wal_keep_size"]);

            let role = cluster.superuser();
            execute(&mut open, &format!("ALTER ROLE {role} SET statement_timeout = '1h'")).await;
            let found = until_found(&url, "timeouts", &[]);
            assert_found(&found, "note", 0, &["statement_timeout is 3600000 ms, set for the role"]);
            if installation.major() >= 14 {
                execute(&mut open, "ALTER SYSTEM SET idle_session_timeout = '1h'; ").await;
                execute(&mut open, "SELECT pg_reload_conf()").await;
                let found = until_found(&url, "timeouts", &[]);
                assert_found(&found, "warning", 1, &["idle_session_timeout is 3600000 ms, set on the server"]);
            }

            execute(&mut open, "CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0").await;
            let ascii = cluster.url(role, cluster.superuser_password(), "ascii");
            let found = until_found(&ascii, "server", &[]);
            assert_found(&found, "warning", 1, &["SQL_ASCII"]);
            let read_only = format!("{url}?options=-c%20default_transaction_read_only%3Don");
            let found = until_found(&read_only, "server", &["--only", "server"]);
            assert_found(&found, "note", 0, &["default_transaction_read_only is on"]);
        });
    });
}

#[test]
fn the_lag_of_an_outbox_is_named() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        let outbox = |arguments: &[&str]| {
            let mut command = pgbell();
            let (code, _, err) =
                run(command.env("DATABASE_URL", &url).arg("outbox").args(arguments));
            assert_eq!(code, 0, "{err}");
        };
        outbox(&["init", "shop"]);
        outbox(&["read", "shop", "-c", "billing", "--from", "beginning"]);
        Runtime::new().unwrap().block_on(async {
            let mut writer = session(&url).await;
            execute(&mut writer, "INSERT INTO shop (key, payload) VALUES ('', '{}')").await;
            let found = until_found(&url, "outbox", &["--lag", "10ms,1h"]);
            assert_found(
                &found,
                "warning",
                1,
                &["the cursor billing of public.shop has a lag of", "drop-cursor"],
            );
        });
    });
}

#[test]
fn a_pooler_is_named_with_its_mode() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        for (mode, status, code, text) in [
            (PoolMode::Session, "note", 0, "in session mode"),
            (PoolMode::Transaction, "critical", 2, "no notification arrives"),
        ] {
            let pooler = PgBouncer::start(&cluster, mode).unwrap();
            let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
            let found = until_found(&url, "pooler", &["--only", "pooler"]);
            assert_found(&found, status, code, &[text]);
            let found = until_found(&url, "pooler", &["--only", "pooler", "--no-probe"]);
            assert_found(&found, "note", 0, &["its mode is not known"]);
        }
    });
}

#[test]
fn a_small_limit_of_the_queue_and_old_releases_are_named() {
    let newest = Installation::matrix().unwrap().pop().unwrap();
    assert!(newest.major() >= 17, "the matrix has no server with this setting");
    let cluster = builder(&newest).setting("max_notify_queue_pages", "64").start().unwrap();
    let found = until_found(&cluster.url_for_superuser(), "queue", &[]);
    assert_found(&found, "warning", 1, &["max_notify_queue_pages is 64"]);
}

#[test]
fn a_server_that_cannot_be_reached_is_critical_and_wrong_arguments_are_unknown() {
    let nowhere = "postgres://u:hunter2@127.0.0.1:1/postgres";
    let (code, report) = parsed(&run(&mut doctor(nowhere, &[])));
    assert_eq!((code, report["status"].as_str()), (2, Some("critical")));
    assert!(!report.to_string().contains("hunter2"));
    for arguments in [&["--queue", "5"][..], &["--only", "nothing"], &["--lag", "1m,5s"]] {
        let (code, out, err) = run(&mut doctor(nowhere, arguments));
        assert_eq!((code, out.as_str()), (3, ""), "{err}");
        assert!(err.contains("error: "), "{err}");
    }
    let (code, _, err) = run(&mut doctor("postgres://h:port/", &[]));
    assert_eq!(code, 3, "{err}");
}

#[test]
fn a_monitoring_system_gets_one_line_or_metrics() {
    let cluster = common::cluster();
    let of = |format: &str| {
        let mut command = pgbell();
        command.env("DATABASE_URL", cluster.url_for_superuser());
        command.args(["doctor", "--skip", "version", "--no-probe", "--format", format]);
        let (code, out, err) = run(&mut command);
        assert_eq!((code, err.as_str()), (0, ""));
        out
    };
    let nagios = of("nagios");
    assert!(nagios.starts_with("PGBELL OK - 14 ok | queue_usage_ratio=0;0.1;0.5 "), "{nagios}");
    assert_eq!(nagios.lines().count(), 1);
    let prometheus = of("prometheus");
    for line in ["pgbell_doctor_status{check=\"queue\"} 0", "pgbell_doctor_queue_usage_ratio 0"] {
        assert!(prometheus.lines().any(|one| one == line), "{line}: {prometheus}");
    }
}

#[test]
fn a_standby_is_named_with_the_cure() {
    let primary = Cluster::builder().auth(Auth::ScramSha256).start().unwrap();
    let standby = primary.standby().unwrap();
    let found = until_found(&standby.url_for_superuser(), "server", &["--only", "server,delivery"]);
    assert_found(
        &found,
        "critical",
        2,
        &["the server is a standby", "target_session_attrs=read-write"],
    );
}

/// The tables of pgmq, as its functions make them.
#[test]
fn a_queue_that_is_not_handled_is_named() {
    on_versions(|installation| {
        let cluster = builder(installation).start().unwrap();
        let url = cluster.url_for_superuser();
        Runtime::new().unwrap().block_on(async {
            let mut admin = session(&url).await;
            execute(
                &mut admin,
                "CREATE SCHEMA pgmq;
                CREATE TABLE pgmq.meta (queue_name varchar PRIMARY KEY, is_partitioned boolean, is_unlogged boolean, created_at timestamptz);
                INSERT INTO pgmq.meta VALUES ('Jobs'), ('gone');
                CREATE TABLE pgmq.q_jobs (msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, read_ct integer DEFAULT 0,
                    enqueued_at timestamptz DEFAULT now(), vt timestamptz, message jsonb, headers jsonb);",
            )
            .await;
            let (code, report) = parsed(&run(&mut doctor(&url, &["--only", "pgmq"])));
            assert_eq!((code, report["findings"][0]["summary"].as_str()), (0, Some("1 queue, none with a lag")));
            execute(&mut admin, "INSERT INTO pgmq.q_jobs (read_ct, enqueued_at) VALUES (7, now() - interval '10 minutes')").await;
            let found = until_found(&url, "pgmq", &[]);
            assert_found(
                &found,
                "warning",
                1,
                &["the oldest message of the queue Jobs was sent 10 min", "with 7 reads"],
            );
        });
    });
}

#[test]
fn a_certificate_that_expires_soon_or_is_not_verified_is_named() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("127.0.0.1").ip_address([127, 0, 0, 1])).unwrap();
    let cluster = Cluster::builder().auth(Auth::ScramSha256).tls(&leaf).start().unwrap();
    let url = format!("{}?sslmode=require", cluster.url_for_superuser());
    let found = until_found(&url, "certificate", &["--only", "certificate"]);
    assert_found(&found, "note", 0, &["is not verified", "sslmode=verify-full"]);
    let file = root.certificate().path().to_str().unwrap().replace('/', "%2F");
    let url = format!("{}?sslmode=verify-full&sslrootcert={file}", cluster.url_for_superuser());
    let (code, report) =
        parsed(&run(&mut doctor(&url, &["--only", "certificate", "--certificate", "2h,1h"])));
    let summary = report["findings"][0]["summary"].as_str().unwrap();
    assert!(
        code == 0 && summary.starts_with("valid for ") && summary.ends_with("and verified"),
        "{report}"
    );
    let limits = ["--only", "certificate", "--certificate", "36500d,1h"];
    let found = until_found(&url, "certificate", &limits);
    assert_found(
        &found,
        "warning",
        1,
        &["the certificate of the server, CN=127.0.0.1", "expires in"],
    );
}

#[test]
fn a_password_with_several_forms_is_named_and_not_shown() {
    // A soft hyphen does not count, and a ligature has another form.
    let password = "pa\u{ad}ss\u{fb01}";
    let cluster = Cluster::builder()
        .auth(Auth::ScramSha256)
        .init_sql(format!("CREATE ROLE odd LOGIN PASSWORD '{password}'"))
        .start()
        .unwrap();
    let mut command = doctor(&cluster.url("odd", None, "postgres"), &["--only", "password"]);
    let (code, report) = parsed(&run(command.env("PGPASSWORD", password)));
    let found = faults(&report, "password");
    assert_eq!((code, found.len()), (0, 1), "{report}");
    assert!(found[0].to_string().contains("SASLprep changes the password"), "{report}");
    assert!(
        !report.to_string().contains("fb01") && !report.to_string().contains('\u{fb01}'),
        "{report}"
    );
}
