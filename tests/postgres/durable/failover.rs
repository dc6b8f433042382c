//! What happens to a log when its primary is lost, or when a crash loses the end of its write-ahead log.

use std::time::Duration;

use pgbell::durable::{Batch, Cursor, CursorBuilder, Outbox};
use pgbell::{Connection, ErrorKind, Listen};
use pgbell_testkit::{Cluster, Mode, Signal};

use super::support::{Log, add, look, nothing, sql, take};
use crate::failover::conninfo;
use crate::matrix::on_every_version;
use crate::support::{Server, installation, run, until_sql, value};

on_every_version! { pg13 = 13:
    a_cursor_continues_at_the_new_primary_and_misses_nothing_after_a_synchronous_failover
    a_batch_that_an_asynchronous_failover_has_lost_is_not_acknowledged
    a_read_without_records_before_a_crash_does_not_skip_what_is_written_after_it
}
on_every_version! { pg18 = 18:
    a_cursor_continues_at_the_new_primary_and_misses_nothing_after_a_synchronous_failover
    a_batch_that_an_asynchronous_failover_has_lost_is_not_acknowledged
    a_batch_that_a_crash_has_lost_is_not_acknowledged
    a_read_without_records_before_a_crash_does_not_skip_what_is_written_after_it
}

/// Opens a cursor that polls, and is quick to connect again.
async fn open(cursor: CursorBuilder) -> Cursor {
    let cursor = cursor.listen(Listen::Disabled).interval(Duration::from_millis(50));
    // No renewal writes to the disk.
    let cursor = cursor.lease(Duration::from_secs(3_600));
    cursor.backoff(Duration::from_millis(1), Duration::from_millis(50)).open().await.unwrap()
}

/// A primary with a log, and its standby.
struct Pair {
    log: Log,
    standby: Cluster,
    /// Both servers.
    outbox: Outbox,
}

impl Pair {
    async fn new(major: u32, is_synchronous: bool) -> Self {
        let server = durable(major);
        let standby = server.cluster.standby().unwrap_or_else(|error| panic!("{error}"));
        let log = Log::new(server).await;
        let primary = &log.server.cluster;
        standby.wait_caught_up(primary).unwrap();
        if is_synchronous {
            primary.set("synchronous_standby_names", "*").unwrap();
            let mut session = log.session().await;
            until_sql(
                &mut session,
                "SELECT EXISTS (SELECT FROM pg_stat_replication WHERE sync_state = 'sync')",
            )
            .await;
        }
        let outbox = Outbox::new(conninfo([primary, &standby], "").as_str(), "outbox").unwrap();
        Self { log, standby, outbox }
    }

    async fn open(&self, name: &str) -> Cursor {
        open(self.outbox.cursor(name)).await
    }

    /// The primary is lost, and the standby is the new one. Returns a session with it.
    async fn fail_over(&self) -> Connection {
        self.log.server.cluster.kill_postmaster().unwrap();
        self.standby.promote().unwrap();
        let mut session = Connection::connect(self.standby.url_for_superuser()).await.unwrap();
        // A standby that is promoted still waits for its own.
        sql(&mut session, "ALTER SYSTEM RESET synchronous_standby_names").await;
        sql(&mut session, "SELECT pg_reload_conf()").await;
        until_sql(&mut session, "SELECT current_setting('synchronous_standby_names') = ''").await;
        session
    }
}

fn a_cursor_continues_at_the_new_primary_and_misses_nothing_after_a_synchronous_failover(
    major: u32,
) {
    run(async {
        let pair = Pair::new(major, true).await;
        let (mut writer, mut late) = (pair.log.session().await, pair.log.session().await);
        let mut cursor = pair.open("reader").await;
        sql(&mut late, "BEGIN").await;
        add(&mut late, "", "lost with its session").await;
        add(&mut writer, "", "one").await;
        add(&mut writer, "", "two").await;
        assert_eq!(take(&mut cursor).await, ["one", "two"]);
        add(&mut writer, "", "three").await;
        let (found, receipt) = look(&mut cursor).await;
        assert_eq!(found, ["three"]);
        let mut new = pair.fail_over().await;
        add(&mut new, "", "four").await;
        let (found, again) = look(&mut cursor).await;
        assert_eq!(found, ["three", "four"]);
        // At the new primary, another reader takes the cursor: the one of before acknowledges nothing.
        let other = pair.outbox.cursor("reader").take_over().listen(Listen::Disabled);
        let mut other = other.open().await.unwrap();
        for receipt in [receipt, again] {
            let receipt = receipt.to_string();
            let error = new.query(&pair.outbox.ack_sql(), &[Some(&receipt)]).await.unwrap_err();
            assert_eq!(error.sqlstate(), Some("PGB01"), "{error}");
        }
        assert_eq!(cursor.next().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(take(&mut other).await, ["three", "four"]);
        nothing(&mut other).await;
        other.close().await;
    });
}

/// More ids than a sequence writes into the log of the server in advance, so that they are assigned again.
const MANY: &str =
    "INSERT INTO outbox (key, payload) SELECT '', 'lost ' || n FROM generate_series(1, 100) AS n";

/// Acknowledges a batch that the server has lost, in both ways. A position with its xids and ids would seem to include what is written next.
async fn is_refused(outbox: &Outbox, session: &mut Connection, batch: Batch<'_>) {
    let receipt = batch.receipt().to_string();
    let error = session.query(&outbox.ack_sql(), &[Some(&receipt)]).await.unwrap_err();
    assert_eq!(error.sqlstate(), Some("PGB02"), "{error}");
    let error = batch.ack().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
}

fn a_batch_that_an_asynchronous_failover_has_lost_is_not_acknowledged(major: u32) {
    run(async {
        let pair = Pair::new(major, false).await;
        let mut writer = pair.log.session().await;
        let mut cursor = pair.open("reader").await;
        add(&mut writer, "", "one").await;
        assert_eq!(take(&mut cursor).await, ["one"]);
        pair.standby.wait_caught_up(&pair.log.server.cluster).unwrap();
        let mut session = Connection::connect(pair.standby.url_for_superuser()).await.unwrap();
        // It receives nothing any more.
        sql(&mut session, "ALTER SYSTEM SET primary_conninfo = ''").await;
        sql(&mut session, "SELECT pg_reload_conf()").await;
        until_sql(&mut session, "SELECT NOT EXISTS (SELECT FROM pg_stat_wal_receiver)").await;
        sql(&mut writer, MANY).await;
        let batch = cursor.next().await.unwrap();
        assert_eq!(batch.len(), 100);
        let mut new = pair.fail_over().await;
        is_refused(&pair.outbox, &mut new, batch).await;
        add(&mut new, "", "two").await;
        assert_eq!(take(&mut cursor).await, ["two"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// A server whose commits wait for the disk by default. Beside them only its walwriter writes.
fn durable(major: u32) -> Server {
    Server::with(|builder| {
        let builder = builder.installation(installation(major));
        let builder = builder.setting("synchronous_commit", "on");
        builder.setting("bgwriter_lru_maxpages", "0").setting("autovacuum", "off")
    })
}

/// Freezes the process that writes what no commit waits for. Returns its id.
async fn freeze_walwriter(log: &Log) -> i32 {
    let sql = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'";
    let pid = value(&mut log.session().await, sql).await.parse().unwrap();
    log.server.cluster.signal_backend(pid, Signal::Stop).unwrap();
    pid
}

/// Kills a process of the server, after which the postmaster starts everything again.
async fn crash(log: &Log, pid: i32) {
    let mut watch = log.session().await;
    log.server.cluster.signal_backend(pid, Signal::Kill).unwrap();
    // The sessions end before that.
    while watch.simple_query("SELECT 1").await.is_ok() {}
    log.server.cluster.wait_ready().unwrap();
}

/// A crash loses what was committed without waiting for the disk: one of the whole server, and one of a process of it. A restart after it does not make
/// the batch valid again.
fn a_batch_that_a_crash_has_lost_is_not_acknowledged(major: u32) {
    for (is_whole, restarts) in [(true, false), (true, true), (false, false)] {
        let server = durable(major);
        run(async {
            let log = Log::new(server).await;
            let mut cursor = open(log.outbox.cursor("reader")).await;
            let pid = freeze_walwriter(&log).await;
            let mut writer = log.session().await;
            sql(&mut writer, "SET synchronous_commit = off").await;
            sql(&mut writer, MANY).await;
            let batch = cursor.next().await.unwrap();
            assert_eq!(batch.len(), 100);
            if is_whole {
                log.server.cluster.stop(Mode::Immediate).unwrap();
                log.server.cluster.start_again().unwrap();
                if restarts {
                    log.server.cluster.restart().unwrap();
                }
            } else {
                crash(&log, pid).await;
            }
            let mut session = log.session().await;
            assert_eq!(value(&mut session, "SELECT count(*) FROM outbox").await, "0");
            is_refused(&log.outbox, &mut session, batch).await;
            add(&mut session, "", "one").await;
            assert_eq!(take(&mut cursor).await, ["one"]);
            nothing(&mut cursor).await;
            cursor.close().await;
        });
    }
}

/// What a reader has seen without an acknowledgement can be lost, too: transactions that were rolled back, and the ids that they had used.
fn a_read_without_records_before_a_crash_does_not_skip_what_is_written_after_it(major: u32) {
    let server = durable(major);
    run(async {
        let log = Log::new(server).await;
        let mut cursor = open(log.outbox.cursor("reader")).await;
        let pid = freeze_walwriter(&log).await;
        let mut writer = log.session().await;
        sql(&mut writer, &format!("BEGIN; {MANY}")).await;
        let written = "SELECT max(id) || ' ' || max(xid::text::bigint) FROM outbox";
        let lost = value(&mut writer, written).await;
        sql(&mut writer, "ROLLBACK").await;
        for _ in 0..3 {
            nothing(&mut cursor).await;
        }
        crash(&log, pid).await;
        let mut writer = log.session().await;
        add(&mut writer, "", "one").await;
        let [lost, again] = [lost, value(&mut writer, written).await].map(|text| {
            let (id, xid) = text.split_once(' ').unwrap();
            (id.parse::<i64>().unwrap(), xid.parse::<u64>().unwrap())
        });
        assert!(
            again.0 <= lost.0 && again.1 <= lost.1,
            "{again:?} is not assigned again: {lost:?}"
        );
        assert_eq!(take(&mut cursor).await, ["one"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// Nothing distinguishes a restart from a crash with a restart behind it, so the batch is received again.
#[test]
fn a_batch_that_was_received_before_a_restart_is_received_again() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut cursor = open(log.outbox.cursor("reader")).await;
        add(&mut log.session().await, "", "one").await;
        let batch = cursor.next().await.unwrap();
        log.server.cluster.restart().unwrap();
        assert_eq!(batch.ack().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(take(&mut cursor).await, ["one"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// As by a dump that is restored beside the database, which then takes its place: the cluster is the same, and the records are not.
#[test]
fn a_receipt_of_a_database_is_refused_by_a_copy_of_it() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let name = value(&mut log.session().await, "SELECT current_database()").await;
        let other = log.server.cluster.url_for_superuser();
        let (place, _) = other.rsplit_once('/').unwrap();
        let mut admin = Connection::connect(format!("{place}/template1").as_str()).await.unwrap();
        let mut cursor = open(log.outbox.cursor("reader").rotate(false)).await;
        let end = format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        // A reader that polls connects again at once.
        loop {
            sql(&mut admin, &end).await;
            if admin.simple_query(&format!("CREATE DATABASE copy TEMPLATE {name}")).await.is_ok() {
                break;
            }
        }
        add(&mut log.session().await, "", "lost").await;
        let receipt = cursor.next().await.unwrap().receipt().to_string();
        cursor.close().await;
        loop {
            sql(&mut admin, &end).await;
            if admin.simple_query(&format!("DROP DATABASE {name}")).await.is_ok() {
                break;
            }
        }
        sql(&mut admin, &format!("ALTER DATABASE copy RENAME TO {name}")).await;
        let mut session = log.session().await;
        add(&mut session, "", "new").await;
        let refused = session.query(&log.outbox.ack_sql(), &[Some(&receipt)]).await.unwrap_err();
        assert_eq!(refused.sqlstate(), Some("PGB02"));
        let mut cursor = open(log.outbox.cursor("reader").take_over()).await;
        assert_eq!(take(&mut cursor).await, ["new"]);
        cursor.close().await;
    });
}
