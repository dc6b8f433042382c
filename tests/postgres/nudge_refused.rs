//! Nudges that the server does not accept for a time: they are kept, and no process of the server is left behind.

use std::time::Duration;

use pgbell::{Config, Connection, ErrorKind, Listener, Notifier};
use pgbell_testkit::{Auth, Certificates, Cluster, Leaf, Mode, PgBouncer, PoolMode};
use tokio::task::JoinHandle;

use crate::failover::conninfo;
use crate::nudge::{NAME, config, keys_up_to, notifier, until_confirmed};
use crate::support::{Server, installation, next, run, run_for, until, until_sql, value};

/// A session that holds the lock of NOTIFY, because its commit waits for a standby that does not exist.
struct LockHolder {
    process_id: i32,
    commit: JoinHandle<()>,
}

impl LockHolder {
    /// A server for it.
    fn server() -> Server {
        Server::with(|builder| builder.setting("synchronous_standby_names", "absent_standby"))
    }

    async fn start(mut session: Connection, watch: &mut Connection) -> Self {
        session.simple_query("SET synchronous_commit = on").await.unwrap();
        let process_id = session.process_id().unwrap();
        let commit = tokio::spawn(async move {
            session
                .simple_query("CREATE TABLE written (); DROP TABLE written; NOTIFY other")
                .await
                .unwrap();
        });
        let waits = format!(
            "SELECT wait_event IS NOT DISTINCT FROM 'SyncRep' FROM pg_stat_activity WHERE pid = {process_id}"
        );
        until_sql(watch, &waits).await;
        Self { process_id, commit }
    }

    async fn release(self, watch: &mut Connection) {
        let cancel = format!("SELECT pg_cancel_backend({})", self.process_id);
        assert_eq!(value(watch, &cancel).await, "t");
        self.commit.await.unwrap();
    }
}

/// The number of sessions of these application names.
fn sessions(names: &str) -> String {
    format!("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE '{names}'")
}

/// Each silent session was left in the server, where its process waited for the lock, and the next one was opened: more and more
/// processes. The second time TLS is required, so the CancelRequest must be encrypted, too.
#[test]
fn a_server_that_does_not_answer_nudges_gathers_no_waiting_processes() {
    let certificates = Certificates::new().unwrap();
    let root = certificates.authority("root").unwrap();
    let leaf = root.issue(&Leaf::server("localhost").ip_address([127, 0, 0, 1])).unwrap();
    for is_tls in [false, true] {
        let server = match is_tls {
            false => LockHolder::server(),
            true => Server::with(|builder| {
                builder
                    .setting("synchronous_standby_names", "absent_standby")
                    .tls(&leaf)
                    .hba("hostnossl all all all reject")
            }),
        };
        run(async {
            let mut watch = server.connection().await;
            let mut listener = server.listener(&["jobs"]).await;
            let holder = LockHolder::start(server.connection().await, &mut watch).await;
            let connect = |config: Config| {
                let builder = Notifier::builder(config).answer_timeout(Duration::from_millis(500));
                builder.backoff(Duration::from_millis(1), Duration::from_millis(50)).connect()
            };
            let kept = connect(config(&server)).await.unwrap();
            let closed = connect(config(&server).application_name("nudging closed")).await.unwrap();
            kept.nudge("jobs", "1");
            closed.nudge("jobs", "2");
            let is_repeated = |one: &Notifier| one.stats().nudge_sessions >= 5;
            until("several sessions", || is_repeated(&kept) && is_repeated(&closed)).await;
            // Of each: the session of the calls, that of the nudges, and one that is being cancelled. If none were cancelled, there would be
            // at least 12 as long as the lock is held.
            until_sql(&mut watch, &format!("SELECT ({}) <= 6", sessions("nudging%"))).await;
            closed.close().await;
            // The process of its last session does not wait either, although the lock is still held.
            until_sql(&mut watch, &format!("SELECT ({}) = 0", sessions("nudging closed"))).await;
            holder.release(&mut watch).await;
            assert_eq!(next(&mut listener).await.payload(), "1");
            until_confirmed(&kept).await;
            assert_eq!(kept.stats().nudges_dropped, 0);
        });
    }
}

/// PgBouncer ignores a CancelRequest after its client has disconnected.
#[test]
fn nudges_through_a_pooler_gather_no_waiting_processes() {
    let server = LockHolder::server();
    let cluster = &server.cluster;
    for mode in [PoolMode::Session, PoolMode::Transaction] {
        let pooler = PgBouncer::start(cluster, mode).unwrap();
        let url = pooler.url(cluster.superuser(), cluster.superuser_password(), "postgres");
        run(async {
            let mut watch = server.connection().await;
            let mut listener = server.listener(&["jobs"]).await;
            let holder = LockHolder::start(server.connection().await, &mut watch).await;
            let builder = Notifier::builder(&url).answer_timeout(Duration::from_millis(500));
            let builder = builder.backoff(Duration::from_millis(1), Duration::from_millis(50));
            let notifier = builder.connect().await.unwrap();
            notifier.nudge("jobs", "1");
            until("several sessions", || notifier.stats().nudge_sessions >= 8).await;
            // One that waits, and one that is being cancelled.
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
            until_sql(&mut watch, &format!("SELECT ({waiting}) <= 2")).await;
            holder.release(&mut watch).await;
            assert_eq!(next(&mut listener).await.payload(), "1");
            until_confirmed(&notifier).await;
            assert_eq!(notifier.stats().nudges_dropped, 0);
        });
    }
}

/// A lock timeout of the role has dropped up to 1,000 nudges.
#[test]
fn nudges_are_kept_after_a_lock_timeout() {
    let server = LockHolder::server();
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs"]).await;
        let holder = LockHolder::start(server.connection().await, &mut watch).await;
        let impatient = config(&server).options("-c lock_timeout=50ms");
        let builder = Notifier::builder(impatient);
        let notifier =
            builder.backoff(Duration::from_millis(10), Duration::from_millis(50)).await.unwrap();
        for key in ["1", "2", "3"] {
            notifier.nudge("jobs", key);
        }
        until("it is refused several times", || notifier.stats().nudge_transactions >= 3).await;
        assert_eq!(notifier.last_nudge_error().unwrap().sqlstate(), Some("55P03"));
        holder.release(&mut watch).await;
        assert_eq!(keys_up_to(&mut listener, "3").await, ["1", "2", "3"]);
        until_confirmed(&notifier).await;
        let stats = notifier.stats();
        assert_eq!((stats.nudges_dropped, stats.nudge_sessions), (0, 1));
    });
}

/// The session of the nudges is opened long after the other one. A refusal of its login has ended the nudges for good.
#[test]
fn nudges_wait_while_the_login_is_refused() {
    let server = Server::with(|builder| builder.auth(Auth::ScramSha256));
    run(async {
        let mut admin = server.connection().await;
        admin.simple_query("CREATE ROLE bell LOGIN PASSWORD 'first'").await.unwrap();
        let mut listener = server.listener(&["jobs"]).await;
        let url = server.cluster.url("bell", "first", "postgres");
        let builder = Notifier::builder(&url);
        let notifier =
            builder.backoff(Duration::from_millis(10), Duration::from_millis(50)).await.unwrap();
        admin.simple_query("ALTER ROLE bell PASSWORD 'second'").await.unwrap();
        notifier.nudge("jobs", "1");
        until("it is refused several times", || notifier.stats().nudge_attempts_failed >= 3).await;
        assert_eq!(notifier.last_nudge_error().unwrap().kind(), ErrorKind::Auth);
        admin.simple_query("ALTER ROLE bell PASSWORD 'first'").await.unwrap();
        assert_eq!(next(&mut listener).await.payload(), "1");
        until_confirmed(&notifier).await;
        assert_eq!(notifier.stats().nudges_dropped, 0);
    });
}

fn both(first: &Cluster, second: &Cluster) -> Config {
    let text = conninfo([first, second], "");
    text.parse::<Config>().unwrap().application_name(NAME)
}

/// Nudges were sent to the standby again and again.
#[test]
fn nudges_go_to_the_primary_before_and_after_a_failover() {
    let server = Server::start();
    let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
    standby.wait_caught_up(&server.cluster).unwrap();
    run_for(Duration::from_secs(300), async {
        let short = (Duration::from_millis(10), Duration::from_millis(100));
        let mut listener = server.listener(&["jobs"]).await;
        let mut notifiers = Vec::new();
        for (first, second) in [(&server.cluster, &standby), (&standby, &server.cluster)] {
            let builder = Notifier::builder(both(first, second)).backoff(short.0, short.1);
            let notifier = builder.await.unwrap();
            notifier.nudge("jobs", "before");
            assert_eq!(next(&mut listener).await.payload(), "before");
            notifiers.push(notifier);
        }
        tokio::task::block_in_place(|| {
            server.cluster.stop(Mode::Immediate).unwrap();
            standby.promote().unwrap();
            server.cluster.follow(&standby).unwrap();
        });
        let listener = Listener::builder(standby.url_for_superuser()).channels(["jobs"]).connect();
        let mut listener = listener.await.unwrap();
        for (number, notifier) in notifiers.iter().enumerate() {
            let key = format!("after {number}");
            notifier.nudge("jobs", &key);
            keys_up_to(&mut listener, &key).await;
            until_confirmed(notifier).await;
            assert_eq!(notifier.stats().nudges_dropped, 0);
        }
    });
}

/// The queue is bounded since PostgreSQL 17. A session that has executed LISTEN and stays in a transaction keeps it full.
#[test]
fn nudges_are_kept_while_the_notification_queue_is_full_and_a_close_is_bounded() {
    let server = Server::with(|builder| {
        builder.installation(installation(18)).setting("max_notify_queue_pages", "64")
    });
    run(async {
        let mut watch = server.connection().await;
        let mut listener = server.listener(&["jobs"]).await;
        let kept = notifier(&server).await;
        let timeout = Duration::from_secs(2);
        let builder = Notifier::builder(config(&server)).answer_timeout(timeout);
        let closed = builder.backoff(Duration::from_millis(10), Duration::from_millis(50));
        let closed = closed.await.unwrap();
        for notifier in [&kept, &closed] {
            notifier.nudge("jobs", "first");
            assert_eq!(next(&mut listener).await.payload(), "first");
            until_confirmed(notifier).await;
        }
        let mut sleeper = server.connection().await;
        sleeper.simple_query("LISTEN filled; BEGIN; SELECT 1").await.unwrap();
        let fill = "SELECT count(pg_notify('filled', repeat('x', 7000) || n)) FROM generate_series(1, 20) n";
        let full = loop {
            if let Err(full) = watch.simple_query(fill).await {
                break full;
            }
        };
        assert_eq!(full.sqlstate(), Some("54000"), "{full}");
        // Smaller ones still fit until the last page is full.
        while watch.simple_query("NOTIFY filled, 'x'").await.is_ok() {}

        // 5,000 keys are more than a channel keeps.
        for key in 0..5_000 {
            kept.nudge("jobs", &key.to_string());
        }
        kept.nudge("mail", "1");
        let is_full = |notifier: &Notifier| {
            let error = notifier.last_nudge_error();
            error.is_some_and(|error| error.sqlstate() == Some("54000"))
        };
        until("the nudges are refused", || is_full(&kept)).await;
        let error = kept.last_nudge_error().unwrap();
        assert!(error.is_transient());
        assert!(error.hint().unwrap().contains("pg_notification_queue_usage"), "{error}");
        let transactions = kept.stats().nudge_transactions;
        until("they are sent again", || kept.stats().nudge_transactions > transactions + 2).await;
        let stats = kept.stats();
        assert_eq!((stats.nudges, stats.nudges_dropped, stats.nudge_sessions), (5_002, 0, 1));
        assert!(stats.nudges_unconfirmed <= 1_025, "{stats:?}");

        // A close waits no longer than the answer timeout, and counts what is lost.
        closed.nudge("jobs", "lost");
        until("the nudge is refused", || is_full(&closed)).await;
        let (counted, begin) = (closed.clone(), std::time::Instant::now());
        closed.close().await;
        assert!(begin.elapsed() < timeout + Duration::from_secs(3), "{:?}", begin.elapsed());
        let stats = counted.stats();
        assert_eq!(
            (stats.nudges_committed, stats.nudges_dropped, stats.nudges_unconfirmed),
            (1, 1, 0)
        );
        assert_eq!(counted.last_nudge_error().unwrap().kind(), ErrorKind::Closed);

        // The sleeper reads, and the queue is free again.
        sleeper.simple_query("COMMIT; UNLISTEN *").await.unwrap();
        value(&mut watch, "SELECT pg_notification_queue_usage()").await;
        assert_eq!(next(&mut listener).await.payload(), "", "everything must be read");
        until_confirmed(&kept).await;
        let stats = kept.stats();
        assert_eq!((stats.nudges_dropped, stats.nudge_sessions), (0, 1), "{stats:?}");
    });
}
