//! Which reader has a cursor, and lost sessions.

use std::time::{Duration, Instant};

use pgbell::durable::{Cursor, CursorWait};
use pgbell::{Connection, ErrorKind};
use pgbell_testkit::Mode;

use super::support::{Log, add, look, nothing, sql, take, text};
use crate::support::{Server, poll_once, run, until_sql, value};

#[test]
fn a_reader_waits_until_the_lease_of_another_one_has_passed() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut writer = log.session().await;
        add(&mut writer, "", "one").await;
        let lease = Duration::from_secs(4);
        let settings = || log.outbox.cursor("reader").interval(Duration::from_secs(1)).lease(lease);
        let mut first = settings().reader("first").open().await.unwrap();
        assert_eq!(look(&mut first).await.0, ["one"]);
        let begun = Instant::now();
        // It is not read: nothing renews its lease.
        let mut second = settings().reader("second").open().await.unwrap();
        let waited = begun.elapsed();
        assert!(waited > lease / 2 && waited < lease + Duration::from_secs(10), "{waited:?}");
        let status = log.outbox.status().await.unwrap();
        assert_eq!(status.cursors[0].reader.as_deref(), Some("second"));
        assert_eq!(first.next().await.unwrap_err().kind(), ErrorKind::Fenced);
        assert_eq!(take(&mut second).await, ["one"]);

        // A reader that reads keeps it.
        let mut third = std::pin::pin!(settings().open());
        let until = Instant::now() + 2 * lease;
        while Instant::now() < until {
            nothing(&mut second).await;
            assert!(poll_once(third.as_mut()).await.is_none());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // One that ends gives it back.
        second.close().await;
        let begun = Instant::now();
        let third = third.await.unwrap();
        assert!(begun.elapsed() < lease / 2);
        third.close().await;
    });
}

/// A clock that is set back by an hour must not keep the cursor for an hour.
#[test]
fn a_lease_that_ends_later_than_it_can_is_taken() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut session = log.session().await;
        let first = log.open("reader").await;
        sql(
            &mut session,
            "UPDATE outbox_cursors SET leased_until = leased_until + interval '2 hours'",
        )
        .await;
        let second = log.open("reader").await;
        drop(first);
        second.close().await;
    });
}

/// Returns a session whose transaction has acknowledged a record and is open, and the reader that has received it.
async fn open_acknowledgement(log: &Log) -> (Connection, Cursor) {
    let mut user = log.session().await;
    add(&mut user, "", "one").await;
    let mut first = log.open("reader").await;
    let (_, receipt) = look(&mut first).await;
    sql(&mut user, "BEGIN").await;
    user.query(&log.outbox.ack_sql(), &[Some(&receipt.to_string())]).await.unwrap();
    (user, first)
}

/// Whether its records are received again depends on the end of that transaction.
#[test]
fn a_reader_waits_for_an_acknowledgement_that_is_not_committed() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut watch = log.session().await;
        let (mut user, mut first) = open_acknowledgement(&log).await;
        {
            let mut second = std::pin::pin!(log.cursor("reader").take_over().open());
            assert!(poll_once(second.as_mut()).await.is_none());
            tokio::select! {
                _ = second.as_mut() => panic!("the acknowledgement is not committed"),
                () = tokio::time::sleep(Duration::from_secs(4)) => {}
            }
            sql(&mut user, "COMMIT").await;
            let mut second = second.await.unwrap();
            nothing(&mut second).await;
            second.close().await;
        }
        assert_eq!(value(&mut watch, "SELECT count(*) FROM outbox_acks WHERE seq > 3").await, "1");
        assert_eq!(first.next().await.unwrap_err().kind(), ErrorKind::Fenced);
    });
}

/// Its statement went on on the server, and took the cursor from a reader that had been left in peace.
#[test]
fn a_take_over_that_is_given_up_does_not_take_the_cursor() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut watch = log.session().await;
        let (mut user, mut first) = open_acknowledgement(&log).await;
        let (report, mut waits) = tokio::sync::mpsc::unbounded_channel();
        let report = move |wait| report.send(wait).unwrap();
        {
            let mut second =
                std::pin::pin!(log.cursor("reader").take_over().on_wait(report).open());
            tokio::select! {
                _ = second.as_mut() => panic!("the acknowledgement is not committed"),
                wait = waits.recv() => assert_eq!(wait, Some(CursorWait::OpenTransaction)),
            }
            // The next attempt, which waits on the server.
            let is_waiting = "SELECT count(*) = 1 FROM pg_locks WHERE NOT granted";
            tokio::select! {
                _ = second.as_mut() => panic!("the acknowledgement is not committed"),
                () = until_sql(&mut watch, is_waiting) => {}
            }
        }
        until_sql(&mut watch, "SELECT count(*) = 0 FROM pg_locks WHERE NOT granted").await;
        sql(&mut user, "COMMIT").await;
        add(&mut user, "", "two").await;
        assert_eq!(take(&mut first).await, ["two"]);
        first.close().await;
    });
}

#[test]
fn a_cursor_continues_after_its_sessions_were_lost() {
    // What was acknowledged must survive a crash.
    let server = Server::with(|builder| builder.setting("synchronous_commit", "on"));
    run(async {
        let log = Log::with(server, &text().notify_on_commit(true)).await;
        let mut writer = log.session().await;
        let mut cursor = log
            .cursor("reader")
            .backoff(Duration::from_millis(1), Duration::from_millis(50))
            .open()
            .await
            .unwrap();
        add(&mut writer, "", "one").await;
        let batch = cursor.next().await.unwrap();
        // The answer to the acknowledgement does not arrive.
        let others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
        sql(&mut writer, others).await;
        batch.ack().await.unwrap();
        assert!(cursor.stats().retries > 0, "{:?}", cursor.stats());
        assert!(cursor.last_error().is_some());
        nothing(&mut cursor).await;
        add(&mut writer, "", "two").await;
        let (found, _) = look(&mut cursor).await;
        assert_eq!(found, ["two"]);
        log.server.cluster.stop(Mode::Immediate).unwrap();
        log.server.cluster.start_again().unwrap();
        assert_eq!(take(&mut cursor).await, ["two"]);
        nothing(&mut cursor).await;
        cursor.close().await;
    });
}

/// While it waits, the cursor sends nothing but its polls, and the renewals of its lease are part of them.
#[test]
fn a_cursor_that_waits_sends_only_its_polls() {
    let server = Server::logging();
    run(async {
        let log = Log::new(server).await;
        let mut watch = log.session().await;
        let mut cursor = log
            .outbox
            .cursor("reader")
            .interval(Duration::from_millis(500))
            .lease(Duration::from_secs(2))
            .open()
            .await
            .unwrap();
        let waited = tokio::time::timeout(Duration::from_secs(5), cursor.next()).await;
        assert!(waited.is_err());
        let text = log.server.cluster.log();
        let polls = text
            .lines()
            .filter(|line| line.contains("execute <unnamed>") && line.contains("outbox_read"))
            .count();
        assert!((8..=12).contains(&polls), "{polls}");
        let renewals = text
            .lines()
            .filter(|line| line.contains("execute <unnamed>: UPDATE \"public\".\"outbox_cursors\""))
            .count();
        assert_eq!(renewals, 0);
        until_sql(&mut watch, "SELECT leased_until > clock_timestamp() FROM outbox_cursors").await;
        cursor.close().await;
    });
}

/// The cursor holds no lock while it waits, and takes none that a writer waits for.
#[test]
fn a_cursor_does_not_wait_for_a_writer_that_locks_the_log() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let (mut locker, mut watch) = (log.session().await, log.session().await);
        let mut cursor = log.open("reader").await;
        sql(&mut locker, "BEGIN; LOCK TABLE outbox IN EXCLUSIVE MODE").await;
        nothing(&mut cursor).await;
        sql(&mut locker, "COMMIT; BEGIN; LOCK TABLE outbox IN ACCESS EXCLUSIVE MODE").await;
        let mut next = Box::pin(async move {
            nothing(&mut cursor).await;
            cursor
        });
        assert!(poll_once(next.as_mut()).await.is_none());
        let blocked = "SELECT count(*) > 0 FROM pg_locks WHERE NOT granted";
        let reading = tokio::spawn(next);
        until_sql(&mut watch, blocked).await;
        sql(&mut locker, "COMMIT").await;
        reading.await.unwrap().close().await;
    });
}

/// A transaction that is prepared stays open also after a crash.
#[test]
fn a_reader_waits_for_an_acknowledgement_that_is_prepared() {
    let server = Server::with(|builder| {
        builder.setting("max_prepared_transactions", "5").setting("synchronous_commit", "on")
    });
    run(async {
        let log = Log::new(server).await;
        let mut user = log.session().await;
        add(&mut user, "", "one").await;
        let mut first = log.open("reader").await;
        let (_, receipt) = look(&mut first).await;
        sql(&mut user, "BEGIN").await;
        user.query(&log.outbox.ack_sql(), &[Some(&receipt.to_string())]).await.unwrap();
        sql(&mut user, "PREPARE TRANSACTION 'ack'").await;
        drop(first);
        log.server.cluster.stop(Mode::Immediate).unwrap();
        log.server.cluster.start_again().unwrap();
        let mut user = log.session().await;
        let opening = log.cursor("reader").take_over().open();
        {
            let mut second = std::pin::pin!(opening);
            tokio::select! {
                _ = second.as_mut() => panic!("the acknowledgement is not committed"),
                () = tokio::time::sleep(Duration::from_secs(4)) => {}
            }
            sql(&mut user, "COMMIT PREPARED 'ack'").await;
            let mut second = second.await.unwrap();
            nothing(&mut second).await;
            second.close().await;
        }
    });
}

/// A clock that is set forward ends each lease at once. A reader that is not replaced goes on, and one that is acknowledges nothing.
#[test]
fn a_lease_that_ends_early_because_the_clock_is_set_forward_loses_and_repeats_nothing() {
    let server = Server::start();
    run(async {
        let log = Log::new(server).await;
        let mut session = log.session().await;
        let settings = || log.cursor("reader").lease(Duration::from_secs(3_600));
        let mut first = settings().open().await.unwrap();
        let forward =
            "UPDATE outbox_cursors SET leased_until = clock_timestamp() - interval '1 hour'";
        add(&mut session, "", "one").await;
        sql(&mut session, forward).await;
        assert_eq!(take(&mut first).await, ["one"]);
        add(&mut session, "", "two").await;
        let (found, receipt) = look(&mut first).await;
        assert_eq!(found, ["two"]);
        sql(&mut session, forward).await;
        let batch = first.next().await.unwrap();
        let begun = Instant::now();
        let mut second = settings().open().await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(600));
        assert_eq!(batch.ack().await.unwrap_err().kind(), ErrorKind::Fenced);
        let ack = session.query(&log.outbox.ack_sql(), &[Some(&receipt.to_string())]).await;
        assert_eq!(ack.unwrap_err().sqlstate(), Some("PGB01"));
        assert_eq!(take(&mut second).await, ["two"]);
        nothing(&mut second).await;
        second.close().await;
    });
}
